"""What loggers leave in the run folder, across restarts, and that W&B cannot stop a run."""

import csv
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import wandb
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from wandb.proto.wandb_internal_pb2 import Record

from velm_train.core.scrubbing import Scrubber
from velm_train.reporting.compare_wandb import _records
from velm_train.training.loggers import (
    LoggerChoice,
    TrackedFiles,
    WandbRunFacts,
    WandbTracker,
    finish_loggers,
    log_table,
    make_loggers,
    trackers,
)
from velm_train.training.wandb_worker import WandbMode, WandbWorker

NOBODY = Scrubber(secrets=("correct horse battery",), user="annabella", host="workhorse", places=("/users/annabella",))


def facts(**config: object) -> WandbRunFacts:
    return WandbRunFacts(
        project="p", name="n", group="sweep", tags=("lora.r=8",), job_type="run", config=config, final_step=9
    )


def loggers_in(folder: Path, *, mode: WandbMode = "disabled", tensorboard: bool = False, **config: object) -> list:
    choice = LoggerChoice(wandb_mode=mode, tensorboard=tensorboard, timeout_s=20.0)
    return make_loggers(choice, facts(**config), folder=folder, scrubber=NOBODY)


def test_each_choice_gives_its_loggers(tmp_path: Path) -> None:
    assert list(map(type, loggers_in(tmp_path))) == [CSVLogger]
    assert list(map(type, loggers_in(tmp_path, tensorboard=True))) == [CSVLogger, TensorBoardLogger]
    both = loggers_in(tmp_path, mode="offline", tensorboard=True)
    assert list(map(type, both)) == [CSVLogger, TensorBoardLogger, WandbTracker]
    assert finish_loggers(both, failed=False, hurried=False) == ()


def test_csv_of_a_resumed_run_keeps_the_rows_of_its_earlier_part(tmp_path: Path) -> None:
    for steps in ((1, 2), (3, 4)):
        loggers = loggers_in(tmp_path)
        for step in steps:
            loggers[0].log_metrics({"loss/total": 1 / step, f"only/{steps[0]}": 0.0}, step=step)
        finish_loggers(loggers, failed=False, hurried=False)
    rows = list(csv.DictReader((tmp_path / "csv" / "metrics.csv").open()))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["only/1"] for row in rows] == ["0.0", "0.0", "", ""]


def test_offline_records_name_no_place_nobody_and_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that would be uploaded is read back; the library's own logs stay here."""
    monkeypatch.setenv("HOME", "/users/annabella")
    folder = tmp_path / "run"
    loggers = loggers_in(folder, mode="offline", paths={"root": "/users/annabella/mvtec"}, note="correct horse battery")
    log_table(loggers, name="rows", columns=["image"], rows=[("/users/annabella/x.png of workhorse",)])
    (folder / "adapter.json").write_text('{"base": "/users/annabella/model"}')
    (folder / "split.json").write_text("{}")
    (tracker,) = trackers(loggers)
    tracked = TrackedFiles(
        name="n-adapter",
        kind="adapter",
        files={name: folder / name for name in ("adapter.json", "split.json")},
        facts={"hash": "abc"},
        alias="abc",
        used=True,
    )
    assert tracker.log_files(tracked) == ("adapter.json",)
    tracker.log_metrics({"all": 0.5})
    assert finish_loggers(loggers, failed=False, hurried=False) == ()
    wandb.teardown()  # has the library's process write the rest
    (place,) = (folder / "wandb").glob("offline-run-*")
    (file,) = place.glob("*.wandb")
    records = [Record.FromString(record) for record in _records(file)]
    assert {"run", "history", "artifact", "exit"} <= {record.WhichOneof("record_type") for record in records}
    sent = [str(record) for record in records]
    sent += [path.read_text(errors="replace") for path in (place / "files").rglob("*") if path.is_file()]
    for word in ("annabella", "workhorse", "correct horse", str(tmp_path), "/tmp/", "/users/", str(Path.home())):
        assert [text[max(0, text.find(word) - 200) :][:400] for text in sent if word in text] == [], word
    (kept,) = [record.artifact for record in records if record.artifact.name == "n-adapter"]
    assert kept.use_after_commit
    assert "abc" in kept.aliases
    assert [entry.path for entry in kept.manifest.contents] == ["split.json"]
    (run,) = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    assert (run.run_group, list(run.tags), run.resume) == ("sweep", ["lora.r=8"], True)


def test_whatever_the_library_raises_is_noted_once_and_the_rest_goes_on(caplog) -> None:
    done: list[int] = []

    class Run:
        def finish(self, exit_code: int) -> None:
            done.append(exit_code)

    worker = WandbWorker(lambda mode: Run(), mode="offline", timeout_s=5.0)
    for _ in range(3):
        worker.submit(lambda run: run.no_such_thing())
    worker.close(failed=True, hurried=False)
    assert done == [1]
    assert "no_such_thing" in str(worker.problem)
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


DYING = """
import os, signal, sys
from pathlib import Path
import wandb
from velm_train.training.wandb_worker import WandbWorker
open_run = lambda mode: wandb.init(project="p", dir=sys.argv[1], mode="offline")
worker = WandbWorker(open_run, mode="offline", timeout_s=20)
worker._is_open.wait(60)
children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
for pid in {int(pid) for path in children for pid in path.read_text().split()}:
    os.kill(pid, signal.SIGKILL)
worker.close(failed=True, hurried=True)
"""


@pytest.mark.slow
def test_a_run_whose_wandb_was_killed_with_it_ends_in_one_line(tmp_path: Path) -> None:
    """As after `scancel`, which ends all processes of a job."""
    command = [sys.executable, "-c", DYING, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.count("the run goes on, its own files are complete") == 1


def test_run_that_cannot_be_opened_at_all_costs_nothing() -> None:
    def refuse(mode: str) -> None:
        raise PermissionError(f"{mode} is out of order")

    worker = WandbWorker(refuse, mode="online", timeout_s=5.0)
    worker.submit(lambda run: run.log({}))
    worker.close(failed=False, hurried=False)
    assert worker.problem == "PermissionError: online is out of order"


def test_preempted_run_waits_seconds_only() -> None:
    released = threading.Event()
    worker = WandbWorker(lambda mode: released.wait(60), mode="offline", timeout_s=3600.0)
    started = time.monotonic()
    worker.close(failed=True, hurried=True)
    released.set()
    assert time.monotonic() - started < 15
    assert "no answer" in str(worker.problem)
