"""`--multirun` as a user types it: every job a process, impossible words refused before the first, one exit status."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from velm_train.cli.launch import slurm_submit
from velm_train.cli.launch.sweep import run_sweep
from velm_train.cli.launch.sweep_file import read_sweep
from velm_train.cli.plugins import register_plugins
from velm_train.core.errors import ConfigError, ResourceError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def sweep_words(tmp_path: Path) -> tuple[str, ...]:
    return (f"hydra.sweep.dir={tmp_path / 'sweep'}",)


@pytest.fixture
def problem(sweep_words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Returns what a sweep says before its first job; it must leave no job behind."""
    monkeypatch.setattr(slurm_submit.shutil, "which", lambda name: f"/usr/bin/{name}")
    register_plugins()

    def ask(*words: str) -> str:
        with pytest.raises(ConfigError) as caught:
            run_sweep([*words, *sweep_words])
        assert not list((tmp_path / "sweep").glob("*/job.json"))
        return str(caught.value)

    return ask


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["lora.q=1,2"], "unknown setting 'lora.q'; did you mean lora.r"),
        (["seed=-1,-2"], "seed=-1 is not possible; allowed: 0 or more (all 2 jobs are impossible; this is job 0)"),
        (["hydra.launcher.max_parallel=0"], "hydra.launcher.max_parallel=0 is not possible; allowed: 1 or more job"),
        (["hydra.launcher.max_paralel=2"], "Could not override 'hydra.launcher.max_paralel'"),
        (["hydra.launcher.max_paralel=2"], "the launcher chosen has no such setting; did you mean max_parallel"),
        (["hydra.launcher.max_parallel=many"], "hydra.launcher.max_parallel: Value 'many'"),
        (["hydra/launcher=slrum"], "allowed for hydra/launcher: process, slurm, slurm_cpu, slurm_multi_node"),
        (["hydra/launcher=slrum"], "did you mean slurm"),
        (["hydra/launcher=basic"], "every job has to be a process of its own"),
        (["hydra.sweep.subdir=x"], "hydra.sweep.subdir=x is not possible"),
        (["hydra/launcher=slurm_cpu", "hydra.launcher.time_minutes=0"], "hydra.launcher.time_minutes=0"),
        (["hydra/launcher=slurm_cpu", "hydra.launcher.signal_seconds=43200"], "fewer than the 43200 seconds of"),
        (["hydra/launcher=slurm"], "hydra.launcher.gpus_per_node=1 is not possible; allowed: 0 with trainer.accel"),
        (
            ["hydra/launcher=slurm_cpu", "trainer=ddp_sim", "hydra.launcher.tasks_per_node=3"],
            "allowed: 1, or 2, one for",
        ),
        (["hydra/launcher=slurm_cpu", "hydra/sweeper=optuna", "lora.r=choice(4,8)"], "hydra.launcher.wait=true"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_job(words: list[str], expected: str, problem) -> None:
    assert expected in problem(*words)


def test_without_slurm_the_other_launcher_is_named(sweep_words, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_submit.shutil, "which", lambda name: None)
    register_plugins()
    with pytest.raises(ResourceError, match=r"^no SLURM on this machine .*use hydra/launcher=process"):
        run_sweep(["hydra/launcher=slurm_cpu", *sweep_words])


@pytest.mark.parametrize("preset", ["slurm", "slurm_cpu", "slurm_node", "slurm_multi_node"])
def test_every_preset_fits_the_trainer_it_names(preset: str, sweep_words, tmp_path: Path, monkeypatch) -> None:
    """The words stand in the first line of the preset; the fault comes from sbatch, which is not one here."""
    first = (ROOT / "conf" / "hydra" / "launcher" / f"{preset}.yaml").read_text()
    words = first[first.index("(trainer=") + 1 : first.index(")")].split()
    fake = tmp_path / "bin"
    fake.mkdir()
    for name in ("sbatch", "srun"):
        (fake / name).write_text("#!/bin/sh\necho 'sbatch: error: Invalid qos specification' >&2\nexit 1\n")
        (fake / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake}:{os.environ['PATH']}")
    register_plugins()
    with pytest.raises(
        ConfigError, match=r"Invalid qos specification; nothing was submitted: change hydra\.launcher\.qos"
    ):
        run_sweep([f"hydra/launcher={preset}", *words, *sweep_words])
    (script,) = (tmp_path / "sweep" / ".submitit").glob(".submission_file_*.sh")
    assert f"--ntasks-per-node={4 if 'node' in preset else 1}" in script.read_text()
    assert not (tmp_path / "sweep" / "0").exists()
    assert read_sweep(tmp_path / "sweep") is None, "what nobody took is no sweep"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "velm_train", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    """Two files of predictions: jobs that take seconds and leave results like a run."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("image_id,category,defect_type,answer\n1,nut,cut,cut\n2,nut,dent,cut\n")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["process", pytest.param("slurm_cpu", marks=pytest.mark.slurm)])
def test_sweep_ends_with_a_table_and_goes_on_where_it_failed(
    launcher: str, answers: Path, request: pytest.FixtureRequest
) -> None:
    """Three jobs, of which the last lacks its file the first time."""
    of_launcher = ["hydra.launcher.max_parallel=2"]
    if launcher != "process":
        request.getfixturevalue("slurm")
        of_launcher = ["hydra.launcher.wait=true", "hydra.launcher.memory_gb=2", "hydra.launcher.poll_seconds=1"]
    sweep = answers / "sweep"
    files = ",".join(str(answers / f"{name}.csv") for name in "abc")
    words = ["task=score", f"predictions={files}", "logger=none", f"hydra.sweep.dir={sweep}"]
    words += [f"hydra/launcher={launcher}", *of_launcher]
    first = run("--multirun", *words)
    assert first.returncode == 1, first.stdout + first.stderr
    assert "2 finished, 1 failed" in first.stdout
    states = [json.loads((sweep / str(i) / "job.json").read_text())["state"] for i in range(3)]
    assert states == ["finished", "finished", "failed"]
    assert json.loads((sweep / "2" / "job.json").read_text())["exit_status"] == 2
    assert (sweep / "0" / "results.json").is_file()

    shutil.copy(answers / "a.csv", answers / "c.csv")
    again = run("--multirun", *words)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "finished before, not run again: 0, 1" in again.stdout
    attempts = [json.loads((sweep / str(i) / "job.json").read_text())["attempts"] for i in range(3)]
    assert attempts == [1, 1, 2]
    shown = run("task=status", f"sweep={sweep}")
    assert (shown.returncode, "3 finished" in shown.stdout) == (0, True)
