"""A real training on SLURM that is stopped in the middle and requeued ends with the weights of one that was not."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[3]
WORDS = ("task=train", "debug=fast", "logger=none", "threads=1", "trainer.max_steps=16", "callbacks.checkpoint_every=4")


def train(scratch: Path, *words: str) -> None:
    places = (f"paths.artifacts={scratch / 'artifacts'}", f"paths.outputs={scratch / 'runs'}")
    command = [sys.executable, "-m", "velm_train", *WORDS, *places, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr


def steps_so_far(artifacts: Path) -> int:
    """Returns the optimiser steps that the adapter's training has written down."""
    rows = [path.read_text().count("\n") - 1 for path in artifacts.glob("adapters/.*/**/history.csv")]
    return max(rows, default=0)


def adapter_of(scratch: Path) -> dict[str, bytes]:
    (folder,) = scratch.glob("artifacts/adapters/[!.]*/adapter")
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".safetensors"}


def test_requeued_training_ends_with_the_same_weights(tiny_sweep, tmp_path: Path, ask, wait_for) -> None:
    jobs = tiny_sweep()
    launcher = ("hydra/launcher=slurm_cpu", "hydra.launcher.memory_gb=4", f"hydra.sweep.dir={jobs.folder}")
    train(tmp_path / "stopped", "--multirun", *launcher)
    wait_for(lambda: steps_so_far(tmp_path / "stopped" / "artifacts") >= 4, what=lambda: jobs.log(0), seconds=600)
    ask("scancel", "--signal=USR1", jobs.scheduler_id(0))
    jobs.start_now(0)
    wait_for(lambda: jobs.record(0).state == "finished", what=lambda: jobs.log(0), seconds=600)
    assert (jobs.record(0).attempts, jobs.record(0).requeues) == (2, 1)
    train(tmp_path / "undisturbed")
    stopped, undisturbed = adapter_of(tmp_path / "stopped"), adapter_of(tmp_path / "undisturbed")
    assert stopped
    assert stopped == undisturbed
