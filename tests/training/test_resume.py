"""A training that a real signal stops in a real process ends, once it is continued, as if it had not been stopped."""

import csv
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from velm_train.training.checkpoint_files import complete_ones

SCRIPT = Path(__file__).with_name("stoppable.py")
NAMES_OF_TIME = ("seconds", "per_second", "fraction", "memory")


def start(folder: Path, *, num_processes: int, stop_at: int = 0) -> list[subprocess.Popen[str]]:
    folder.mkdir(exist_ok=True)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    processes = []
    for rank in range(num_processes):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(num_processes)}
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **({**place, **meeting} if num_processes > 1 else {})}
        command = [sys.executable, str(SCRIPT), str(folder), str(stop_at)]
        pipe = subprocess.PIPE
        processes.append(subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True))
    return processes


def end(processes: Sequence[subprocess.Popen[str]]) -> list[int]:
    shown = [process.communicate(timeout=240)[1] for process in processes]
    statuses = [process.returncode for process in processes]
    assert set(statuses) <= {0, 75}, "\n".join(shown)
    return statuses


def history(folder: Path) -> list[dict[str, str]]:
    rows = list(csv.DictReader((folder / "history.csv").open()))
    return [
        {name: value for name, value in row.items() if not any(word in name for word in NAMES_OF_TIME)} for row in rows
    ]


def stopped_in_step_four(folder: Path, *, num_processes: int, number: int) -> list[int]:
    """Sends the signal to the last process alone, twice, while it makes the fourth step; all wait for it there."""
    processes = start(folder, num_processes=num_processes, stop_at=4)
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n", end(processes)
    for _ in range(2):
        processes[-1].send_signal(number)
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return end(processes)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Returns the folder of a training by so many processes that nothing has stopped, made once."""
    folders: dict[int, Path] = {}

    def folder_of(num_processes: int) -> Path:
        if num_processes not in folders:
            folder = tmp_path_factory.mktemp("whole")
            assert end(start(folder, num_processes=num_processes)) == [0] * num_processes
            folders[num_processes] = folder
        return folders[num_processes]

    return folder_of


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_processes", "number"),
    [(1, signal.SIGUSR2), (1, signal.SIGTERM), (2, signal.SIGUSR1), (2, signal.SIGTERM)],
    ids=str,
)
def test_stopped_and_continued_equals_undisturbed_bitwise(
    tmp_path: Path, undisturbed, num_processes: int, number: int
) -> None:
    whole, parts = undisturbed(num_processes), tmp_path / "parts"
    assert stopped_in_step_four(parts, num_processes=num_processes, number=number) == [75] * num_processes
    assert complete_ones(parts / "checkpoints")[0].step == 4
    assert len(history(parts)) == 4
    assert end(start(parts, num_processes=num_processes)) == [0] * num_processes
    rows = history(whole)
    assert [row["step"] for row in rows] == [str(step) for step in range(1, 11)]
    assert [row["step"] for row in rows if row["validation/loss"]] == ["3", "6", "9", "10"]
    assert history(parts) == rows
    for rank in range(num_processes):
        name = f"weights-{rank}.pt"
        first, second = (torch.load(folder / name, weights_only=True) for folder in (whole, parts))
        assert first.keys() == second.keys()
        assert [key for key in first if not torch.equal(first[key], second[key])] == []
    first, second = (
        torch.load(complete_ones(one / "checkpoints")[0].path, weights_only=True) for one in (whole, parts)
    )
    assert torch.equal(
        first["optimizer_states"][0]["state"][0]["exp_avg"], second["optimizer_states"][0]["state"][0]["exp_avg"]
    )
    assert first["lr_schedulers"] == second["lr_schedulers"]
