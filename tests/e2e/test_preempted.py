"""A run that its scheduler ends in any stage says so by status 75, and the same command goes on where it was."""

import dataclasses
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from velm_train.reporting.predictions import read_predictions

pytestmark = pytest.mark.slow


def started(artifacts: Path, stage: str, *, holding: str = "") -> Callable[[], bool]:
    """True once the stage has begun to fill a folder, or has put a file into it."""
    return lambda: any((artifacts / stage).glob(f".partial-*{holding}"))


def test_preemption_in_every_stage_is_one_line_and_the_next_run_goes_on(tmp_path: Path, command, road) -> None:
    artifacts, outputs = tmp_path / "art", tmp_path / "out"
    words = ("debug=fast", "threads=1", f"paths.artifacts={artifacts}", f"paths.outputs={outputs}")
    moments = {
        "loading": (
            signal.SIGTERM,
            lambda: any(
                time.time() - path.stat().st_mtime > 0.3 for path in outputs.glob("debug/*/.hydra/overrides.yaml")
            ),
        ),
        "detection": (signal.SIGUSR1, started(artifacts, "detectors")),
        "alignment": (signal.SIGUSR2, started(artifacts, "alignment", holding="/checkpoints/*.ckpt.json")),
        "tuning": (signal.SIGTERM, started(artifacts, "adapters", holding="/checkpoints/*.ckpt.json")),
        "evaluation": (signal.SIGUSR1, started(artifacts, "predictions", holding="/predictions.jsonl.partial")),
    }
    shown = {}
    for moment, (number, condition) in moments.items():
        run = command(*words)
        run.signal_when(number, condition=condition)
        ended = run.end()
        line = f"{number.name}: finished work is kept; the same command continues from there"
        assert (moment, ended.status, ended.lines[-1:]) == (moment, 75, (line,))
        shown[moment] = ended.shown
    ended = command(*words).end()
    assert (ended.status, ended.lines) == (0, ())
    # A stage takes about a second: on a slow machine it may have been finished when the signal arrived.
    assert re.search(r"words: goes on at step [1-9]\d* of 6|alignment: reused", shown["tuning"])
    assert re.search(r"adapter: goes on at step [12] of 3|adapter: reused", shown["evaluation"])
    for stage in ("textures", "detectors", "features", "alignment", "adapters"):
        assert f"reused {stage}/" in ended.shown, stage
    (path,) = outputs.glob("debug/*/predictions.jsonl")
    rows = read_predictions(path)
    assert list(artifacts.rglob("*.partial*")) == []
    assert [dataclasses.replace(row, seconds={}) for row in rows] == [
        dataclasses.replace(row, seconds={}) for row in road.predictions
    ]


def test_a_second_signal_right_after_the_first_changes_nothing(tmp_path: Path, command) -> None:
    artifacts = tmp_path / "art"
    words = ("debug=fast", "threads=1", f"paths.artifacts={artifacts}", f"paths.outputs={tmp_path / 'out'}")
    run = command(*words)
    run.signal_when(signal.SIGUSR1, condition=started(artifacts, "detectors"))
    deadline = time.monotonic() + 60
    while run.process.poll() is None and time.monotonic() < deadline:
        run.process.send_signal(signal.SIGTERM)
        time.sleep(0.01)
    ended = run.end()
    assert ended.status == 75
    # Which one Python sees first is for the kernel and its threads to say; that it is one alone is not.
    (line,) = (line for line in ended.lines if "finished work is kept" in line)
    assert re.match("SIG(USR1|TERM): ", line)
