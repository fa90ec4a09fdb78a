"""The ready sweeps: their scripts are sound, and every job of them, small ones too, composes."""

import itertools
import os
import re
import subprocess
from pathlib import Path

import pytest

from velm_train.cli.compose import load_config

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "experiments" / "sweeps").glob("*.sh"))
SEARCHES = sorted((ROOT / "conf" / "hparams_search").glob("*.yaml"))


def words_of(script: Path, *, stub: Path, **environment: str) -> list[str]:
    """Runs a script with a program that tells its words in the place of Python."""
    stub.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    stub.chmod(0o755)
    told = subprocess.run(
        ["bash", str(script), "threads=1"],
        env=os.environ | {"PYTHON": str(stub)} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return told.stdout.splitlines()


def jobs_of(words: list[str]) -> list[list[str]]:
    """Returns the words of every job of a sweep."""
    choices = [
        [f"{key}={value}" for value in values.split(",")] for key, _, values in (w.partition("=") for w in words)
    ]
    return [list(job) for job in itertools.product(*choices)]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("small", ["", "1"])
def test_every_job_of_a_ready_sweep_composes(script: Path, small: str, tmp_path: Path) -> None:
    words = words_of(script, stub=tmp_path / "python", SMALL=small, MVTEC_AC="data/mvtec_ac")
    assert words[:3] == ["-m", "velm_train", "--multirun"]
    assert words[-1] == "threads=1"
    jobs = jobs_of(words[3:])
    assert len(jobs) > 1
    number = re.search(r"(\d+) jobs", script.read_text())
    assert small or number is None or int(number.group(1)) == len(jobs)
    choices = {word for job in jobs for word in job}
    for job in {tuple(next(job for job in reversed(jobs) if choice in job)) for choice in choices}:
        assert load_config(job).name == script.stem


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_script_opens_with_its_question_and_stops_at_the_first_error(script: Path) -> None:
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert lines[1].startswith("# Question: ")
    assert "set -euo pipefail" in lines
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


def test_data_set_that_is_not_there_is_asked_for() -> None:
    done = subprocess.run(
        ["bash", str(ROOT / "experiments" / "sweeps" / "k_shot.sh")],
        env={name: value for name, value in os.environ.items() if name not in {"MVTEC_AC", "SMALL"}},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "the folder of MVTec-AC" in done.stderr


@pytest.mark.parametrize("path", SEARCHES, ids=lambda path: path.stem)
def test_search_opens_with_its_question_and_composes(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[1].startswith("# Question: ")
    assert lines[2] == f"# Command: python -m velm_train --multirun hparams_search={path.stem}"
    assert load_config([f"hparams_search={path.stem}"]).name == path.stem


def test_every_sweep_is_in_the_list() -> None:
    text = (ROOT / "experiments" / "README.md").read_text()
    assert [path.name for path in SCRIPTS if f"sweeps/{path.name}" not in text] == []
    assert [path.stem for path in SEARCHES if f"hparams_search={path.stem}" not in text] == []
