"""Real trainings on SLURM that are stopped in the middle and requeued end with the weights of one that was not."""

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


def train_with_a_stop(scratch: Path, jobs, *words: str, ask, wait_for) -> None:
    """Trains as the one job of a sweep, which is warned after four steps and started again."""
    launcher = ("hydra/launcher=slurm_cpu", "hydra.launcher.memory_gb=4", f"hydra.sweep.dir={jobs.folder}")
    train(scratch, "--multirun", *launcher, *words)
    wait_for(lambda: steps_so_far(scratch / "artifacts") >= 4, what=lambda: jobs.log(0), seconds=600)
    ask("scancel", "--signal=USR1", jobs.scheduler_id(0))
    jobs.start_now(0)
    wait_for(lambda: jobs.record(0).state == "finished", what=lambda: jobs.log(0), seconds=600)
    assert (jobs.record(0).attempts, jobs.record(0).requeues) == (2, 1)


def test_requeued_training_ends_with_the_same_weights(tiny_sweep, tmp_path: Path, ask, wait_for) -> None:
    train_with_a_stop(tmp_path / "stopped", tiny_sweep(), ask=ask, wait_for=wait_for)
    train(tmp_path / "undisturbed")
    stopped, undisturbed = adapter_of(tmp_path / "stopped"), adapter_of(tmp_path / "undisturbed")
    assert stopped
    assert stopped == undisturbed


def test_requeued_training_on_two_nodes_ends_with_the_weights_of_one_process(
    tiny_sweep, tmp_path: Path, ask, wait_for
) -> None:
    """The nodes are two daemons of one machine; each starts one process of the two."""
    nodes = ("hydra.launcher.partition=pair", "hydra.launcher.nodes=2", "hydra.launcher.tasks_per_node=1")
    jobs = tiny_sweep()
    several = ("trainer=ddp_sim", "trainer.devices=1", "trainer.num_nodes=2")
    train_with_a_stop(tmp_path / "stopped", jobs, *nodes, *several, ask=ask, wait_for=wait_for)
    train(tmp_path / "alone", "trainer.accumulate=2")
    assert (jobs.folder / "0" / ".ranks" / "1" / "job.log").is_file()
    stopped, alone = adapter_of(tmp_path / "stopped"), adapter_of(tmp_path / "alone")
    assert stopped
    assert stopped == alone
