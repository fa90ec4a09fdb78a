"""Runs as a W&B server sees them: the real library and the real `wandb sync` against a server of ours."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from velm_train.core.scrubbing import make_scrubber
from velm_train.training.loggers import (
    LoggerChoice,
    TrackedFiles,
    WandbRunFacts,
    finish_loggers,
    log_table,
    make_loggers,
    trackers,
)

spec = importlib.util.spec_from_file_location("wandb_server", Path(__file__).with_name("wandb_server.py"))
assert spec is not None
assert spec.loader is not None
served = importlib.util.module_from_spec(spec)
spec.loader.exec_module(served)
wandb_server = served.wandb_server

KEY, OTHER_KEY = "0123456789abcdef0123456789abcdef01234567", "not-to-be-seen-by-anybody-else"
FACTS = WandbRunFacts(
    project="p", name="n", group="sweep", tags=("lora.r=8",), job_type="run", config={"seed": 0}, final_step=9
)


@pytest.fixture
def somebody(tmp_path: Path) -> dict[str, str]:
    """The environment of somebody whose name, home and keys are like no others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    home = tmp_path / "home" / "annabella"
    home.mkdir(parents=True)
    return kept | {"HOME": str(home), "USER": "annabella", "LOGNAME": "annabella", "MY_API_KEY": OTHER_KEY}


@pytest.fixture
def log(tmp_path: Path, somebody: dict[str, str]) -> Callable[..., list[str]]:
    """Logs a part of a run in a process of its own; returns what it said at the end, and checks the CSV file."""

    def run(mode: str, *steps: int, ends: bool = True, timeout_s: float = 20.0, **environment: str) -> list[str]:
        words = [str(tmp_path / "run"), mode, str(timeout_s), str(int(ends)), *map(str, steps)]
        program = [sys.executable, __file__, *words]
        done = subprocess.run(
            program, env=somebody | environment, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stderr
        rows = (tmp_path / "run" / "csv" / "metrics.csv").read_text()
        assert [step for step in steps if f"{1 / step}" not in rows] == []
        return done.stdout.splitlines()

    return run


def log_part(folder: Path, mode: Any, timeout_s: float, *, steps: list[int], ends: bool) -> None:
    """Logs steps and, if it ends, what a run ends with; prints what went wrong."""
    socket.gethostname = lambda: "workhorse.example.org"
    choice = LoggerChoice(wandb_mode=mode, tensorboard=False, timeout_s=timeout_s)
    loggers = make_loggers(choice, FACTS, folder=folder, scrubber=make_scrubber(os.environ))
    for step in steps:
        for logger in loggers:
            logger.log_metrics({"loss/total": 1 / step}, step=step)
    if ends:
        picture = np.zeros((4, 6, 3), np.uint8)
        rows = [(picture, "a.png"), (None, f"{Path.home()}/b.png of workhorse"), (None, os.environ["MY_API_KEY"])]
        log_table(loggers, name="predictions", columns=["picture", "image"], rows=rows)
        (folder / "card.html").write_text(f"<p>{Path.home()}/card</p>")
        for name in ("split", "adapter"):
            (folder / f"{name}.json").write_text(name)
        for tracker in trackers(loggers):
            tracker.log_confusion("confusion/nut", [("bent", "cut", 3), ("bent", "bent", 4)])
            tracker.log_page("card", folder / "card.html")
            tracker.log_config({"places": {"root": str(folder), "command": f"python -m x root={folder}"}})
            for name, used in (("split", True), ("adapter", False)):
                files = {f"{name}.json": folder / f"{name}.json", "card.html": folder / "card.html"}
                tracked = TrackedFiles(
                    name=f"n-{name}", kind=name, files=files, facts={"hash": "abc"}, alias="abc", used=used
                )
                sys.stdout.write(f"left out: {' '.join(tracker.log_files(tracked))}\n")
        for logger in loggers:
            logger.log_metrics({"system/all": 0.5})
    started = time.monotonic()
    for problem in finish_loggers(loggers, failed=False, hurried=False):
        sys.stdout.write(f"problem: {problem}\n")
    sys.stdout.write(f"{time.monotonic() - started:.1f} s to finish\n")


def sync(server: Any, folder: Path, *, somebody: dict[str, str]) -> None:
    """Runs the real `wandb sync` in the run folder."""
    places = sorted(str(path.relative_to(folder)) for path in (folder / "wandb").glob("offline-run-*"))
    environment = somebody | {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "WANDB_PROGRAM": "velm_train"}
    program = [sys.executable, "-m", "wandb", "sync", *places]
    done = subprocess.run(
        program, env=environment, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def leaks(contents: list[tuple[str, bytes]], tmp_path: Path) -> list[str]:
    """Returns what of a message is nobody else's business, with what stands around it."""
    words = ("annabella", "workhorse", str(tmp_path), "/tmp/", str(Path.home()), OTHER_KEY)
    return [
        f"{word} in {name}: {content[max(0, at - 80) : at + 80]!r}"
        for name, content in contents
        for word in words
        if (at := content.find(word.encode())) >= 0
    ]


@pytest.mark.slow
def test_parts_of_a_stopped_run_are_one_run_once_synced(log, somebody: dict[str, str], tmp_path: Path) -> None:
    log("offline", 1, 2, 3, ends=False)
    assert log("offline", 4, 5, 6)[:2] == ["left out: card.html"] * 2
    with wandb_server() as server:
        sync(server, tmp_path / "run", somebody=somebody)
        assert len({one["name"] for one in server.asked("UpsertBucket")}) == 1
        rows = {offset + i: row for offset, piece in server.history() for i, row in enumerate(piece)}
        assert [row["loss/total"] for row in rows.values() if "loss/total" in row] == [1 / s for s in range(1, 7)]
        assert [row["_step"] for row in rows.values()] == [1, 2, 3, 4, 5, 6, 9]
        assert server.asked("UpsertBucket")[0]["groupName"] == "sweep"
        assert {one["program"] for one in server.asked("UpsertBucket")} <= {"velm_train", None}
        made = {one["input"]["artifactCollectionName"] for one in server.asked("CreateArtifact")}
        assert {"n-split", "n-adapter"} <= made
        assert [one["input"]["artifactID"] for one in server.asked("UseArtifact")] == ["n-split"]
        assert leaks(server.sent, tmp_path) == []


@pytest.mark.slow
def test_online_run_arrives_and_goes_on_as_itself(log, tmp_path: Path) -> None:
    with wandb_server() as server:
        account = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.url}
        first = log("online", 1, 2, 3, ends=False, **account)
        last = log("online", 4, 5, 6, **account)
        assert [line for line in (*first, *last) if "problem" in line] == []
        assert len({one["name"] for one in server.asked("UpsertBucket")}) == 1
        assert [row["_step"] for _, piece in server.history() for row in piece] == [1, 2, 3, 4, 5, 6, 9]
        assert leaks(server.sent, tmp_path) == []


@pytest.mark.slow
def test_online_without_a_key_is_logged_offline(log, tmp_path: Path) -> None:
    (problem,) = [line for line in log("online", 1, 2, 3, ends=False) if "problem" in line]
    assert "no API key: set WANDB_API_KEY" in problem
    (file,) = (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")
    assert file.stat().st_size > 1000


@pytest.mark.slow
def test_online_without_a_network_is_logged_offline(log, tmp_path: Path) -> None:
    account = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    said = log("online", 1, 2, 3, ends=False, timeout_s=5.0, **account)
    assert len([line for line in said if "problem" in line]) == 1
    (file,) = (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")
    assert file.stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize("hangs_at", ["everything", "upload", "file_stream"])
def test_hanging_server_is_not_waited_for(log, hangs_at: str) -> None:
    with wandb_server(hangs_at=hangs_at) as server:
        account = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.url}
        said = log("online", 1, 2, 3, timeout_s=4.0, **account)
        assert [line for line in said if "problem" in line] != []
        assert float(said[-1].split()[0]) < 4 * (4 + 5)  # opening online, opening offline, finishing


if __name__ == "__main__":
    log_part(
        Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), steps=list(map(int, sys.argv[5:])), ends=sys.argv[4] == "1"
    )
