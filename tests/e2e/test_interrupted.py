"""A run that is stopped loses nothing that was finished: Ctrl-C, and kills without warning."""

import dataclasses
import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from velm_train.reporting.predictions import read_predictions

pytestmark = pytest.mark.slow

LINE = "interrupted: finished work is kept; the same command continues from there"


def started(artifacts: Path, stage: str) -> Callable[[], bool]:
    """True once the stage has begun to fill a folder."""
    return lambda: any((artifacts / stage).glob(".partial-*"))


def finished(artifacts: Path, stage: str) -> list[Path]:
    return sorted(path.parent for path in (artifacts / stage).glob("[!.]*/artifact.json"))


def rows_written(artifacts: Path) -> list[str]:
    """Returns the complete rows of an evaluation that is under way."""
    return [
        line
        for path in artifacts.glob("predictions/.partial-*/predictions.jsonl.partial")
        for line in path.read_text().splitlines(keepends=True)[1:]
        if line.endswith("\n")
    ]


def run_folders(outputs: Path) -> list[Path]:
    return sorted(outputs.glob("debug/*/predictions.jsonl"))


@pytest.fixture
def words(tmp_path: Path) -> tuple[str, ...]:
    return ("debug=fast", "threads=1", f"paths.artifacts={tmp_path / 'art'}", f"paths.outputs={tmp_path / 'out'}")


def test_ctrl_c_in_every_stage_is_one_line_and_the_next_run_goes_on(tmp_path: Path, words, command) -> None:
    artifacts, outputs = tmp_path / "art", tmp_path / "out"
    moments = {
        "loading": lambda: any(  # the last file before the libraries are imported
            time.time() - path.stat().st_mtime > 0.3 for path in outputs.glob("debug/*/.hydra/overrides.yaml")
        ),
        "dataset": started(artifacts, "textures"),
        "detection": started(artifacts, "detectors"),
        "features": started(artifacts, "features"),
        "alignment": started(artifacts, "alignment"),
        "tuning": started(artifacts, "adapters"),
        "evaluation": started(artifacts, "predictions"),
    }
    for moment, condition in moments.items():
        ended = command(*words).interrupt_when(condition)
        # Python ends itself by the signal where the interrupt went through a library's own embedded code while it was
        # imported; a shell shows 130 for both.
        status = 128 + signal.SIGINT if ended.status == -signal.SIGINT else ended.status
        assert (moment, status, ended.lines) == (moment, 130, (LINE,))
    assert run_folders(outputs) == []
    ended = command(*words).end()
    assert (ended.status, ended.lines) == (0, ())
    for stage in ("textures", "detectors", "features", "alignment", "adapters"):
        assert f"reused {stage}/" in ended.shown, stage
    (path,) = run_folders(outputs)
    assert len(read_predictions(path)) == 30


def test_killed_run_goes_on_where_it_was_and_ends_as_if_it_had_not_been(tmp_path: Path, words, command, road) -> None:
    artifacts = tmp_path / "art"

    def kill(*, condition: Callable[[], bool]) -> str:
        run = command(*words, "callbacks.checkpoint_every=1")
        run.signal_when(signal.SIGKILL, condition=condition)
        ended = run.end()
        assert ended.status == -signal.SIGKILL
        return ended.shown

    kill(condition=lambda: len(finished(artifacts, "detections")) >= 1)
    detected = finished(artifacts, "detections")
    kill(condition=lambda: any(artifacts.glob("alignment/.partial-*/checkpoints/*.ckpt.json")))
    assert set(detected) <= set(finished(artifacts, "detections"))
    shown = kill(condition=lambda: any(artifacts.glob("adapters/.partial-*/checkpoints/*.ckpt.json")))
    assert f"reused detections/{detected[0].name}" in shown
    # The stage takes about a second: on a slow machine it may have been finished before the kill arrived.
    assert re.search(r"words: goes on at step [1-9]\d* of 6|alignment: reused", shown)
    shown = kill(condition=lambda: len(rows_written(artifacts)) > 0)
    assert re.search(r"adapter: goes on at step [12] of 3|adapter: reused", shown)
    kept = rows_written(artifacts)
    ended = command(*words, "callbacks.checkpoint_every=1").end()
    assert (ended.status, ended.lines) == (0, ())
    assert re.search(r"ask: velm_train: continued behind \d+ rows", ended.shown)
    (path,) = run_folders(tmp_path / "out")
    rows = read_predictions(path)
    assert list(artifacts.rglob("*.partial*")) == []  # nothing half-written is left, nor kept as a part of an artefact
    assert [json.loads(line)["image_id"] for line in kept] == [row.image_id for row in rows[: len(kept)]]
    assert [dataclasses.replace(row, seconds={}) for row in rows] == [
        dataclasses.replace(row, seconds={}) for row in road.predictions
    ]
