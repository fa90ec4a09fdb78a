"""The node's daemon goes away during a job: stopped and started again, and dead together with all it ran."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def node(slurm: Path) -> "Node":
    """The node's daemon, which runs again afterwards; left alone where a person's cluster is."""
    if os.geteuid() != 0 or not pids("slurmd"):
        pytest.skip("no slurmd of this user on this machine to stop")
    yield Node(slurm)
    start_node(slurm)


class Node:
    """The daemon of this machine's node."""

    def __init__(self, script: Path) -> None:
        self._script = script

    def kill(self, number: int) -> None:
        """Ends the daemon and waits until it is gone."""
        for pid in pids("slurmd"):
            os.kill(pid, number)
        while pids("slurmd"):
            time.sleep(0.1)

    def start(self) -> None:
        start_node(self._script)


def start_node(script: Path) -> None:
    done = subprocess.run(["bash", script, "node"], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def pids(name: str) -> list[int]:
    """Returns the processes of this name that live; a dead one that nobody has buried does not count."""
    found = subprocess.run(["pidof", name], capture_output=True, text=True, check=False, timeout=10).stdout
    return [int(pid) for pid in found.split()]


def processes_of(folder: Path) -> list[int]:
    """Returns the processes whose command line names a folder, such as a job and what SLURM started it with."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and str(folder).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


def test_job_runs_through_a_restart_of_the_daemon(tiny_sweep, node: Node) -> None:
    sweep = tiny_sweep()
    sweep.submit(["steps=6", "holds_at=3"])
    sweep.await_step(0, 3)
    node.kill(signal.SIGTERM)
    node.start()
    (sweep.folder / "0" / "go").touch()
    sweep.await_state(0, "finished")
    assert (sweep.record(0).attempts, sweep.step(0)) == (1, 6)
    sweep.await_left_queue(0)


def test_job_of_a_node_that_died_is_started_again_by_slurm(tiny_sweep, node: Node, ask) -> None:
    sweep = tiny_sweep()
    sweep.submit(["steps=6", "holds_at=3"])
    sweep.await_step(0, 3)
    steppers = pids("slurmstepd")
    node.kill(signal.SIGKILL)
    for pid in (*steppers, *processes_of(sweep.folder)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert sweep.record(0).state == "running"
    # What the controller decides by itself once the node has not answered for SlurmdTimeout.
    ask("scontrol", "update", f"NodeName={sweep.view(0).node}", "State=DOWN", "Reason=died")
    (sweep.folder / "0" / "go").touch()
    node.start()
    sweep.start_now(0)
    view = sweep.await_state(0, "finished")
    assert (view.restarts, sweep.record(0).requeues) == (1, 1)
    assert sweep.log(0).count("starts at step 0") == 2
    sweep.await_left_queue(0)
