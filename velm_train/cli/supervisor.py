"""The words of a command go in; as many processes of it run, watched, until all have ended; an exit status comes out.

    terminal ──signals──► supervisor ──the same signal──► every process
                              ▲                               │
                              └──── status, fault, stderr ────┘

The first process shows its progress on the terminal as if it were alone. What a user can mend is told once, whichever
process met it, and in one line; if one process dies, the others are given a moment and then ended.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

from velm_train.cli.ranks import RANKS_FOLDER, START_VARIABLE, folder_word
from velm_train.core.artifacts import write_atomic
from velm_train.core.ranks import free_port

FAULT_VARIABLE = "VELM_TRAIN_FAULT"
"""Where a supervised process writes what a user can mend, in place of printing it."""

GRACE_SECONDS = 10.0
"""Left to the other processes after one has died; they may be about to say the same."""

STOPPING_GRACE_SECONDS = 120.0
"""The same after a process has stopped by a signal: the others are saving what it saved."""

_KILL_AFTER_SECONDS = 5.0
_POLL_SECONDS = 0.05
_HOLD_SECONDS = 0.3
_SHOWN_LINES = 30
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_EXIT_USER_ERROR, _EXIT_INTERRUPTED, _EXIT_PREEMPTED = 2, 130, 75


@dataclass(frozen=True, kw_only=True, slots=True)
class _Process:
    """One of the processes.

    Attributes:
        fault: where it writes what a user can mend.
        stderr: file of what it prints there, or None for the first, which prints through the supervisor.
    """

    number: int
    popen: subprocess.Popen[bytes]
    fault: Path
    stderr: Path | None

    @property
    def failed(self) -> bool:
        """True if it has met a fault or ended otherwise than well."""
        return self.fault.exists() or self.popen.poll() not in (None, 0)


def supervise(
    words: Sequence[str], *, run_folder: Path, num_processes: int, program: Sequence[str] = ("-m", "velm_train")
) -> int:
    """Runs a command in several processes and returns the exit status of the whole.

    Args:
        words: of the command line, behind `python -m velm_train`.
        run_folder: of all of them.
        num_processes: 2 or more, all on this machine.
        program: what Python is to run.
    """
    start, port = uuid.uuid4().hex[:8], free_port()
    folder = run_folder / RANKS_FOLDER
    command = [sys.executable, *program, *words, folder_word(run_folder.absolute())]
    processes: list[_Process] = []
    forwarded: list[int] = []
    with _signals_forwarded(processes, forwarded):
        try:
            for number in range(num_processes):
                process = _start(
                    command, folder=folder, start=start, number=number, port=port, num_processes=num_processes
                )
                processes.append(process)
            pump = threading.Thread(target=_pump, args=(processes,), daemon=True)
            pump.start()
            ended_here = _watch(processes)
            pump.join(timeout=2 * _HOLD_SECONDS)
        finally:
            for process in processes:
                process.popen.kill()
    return _tell(processes, forwarded, ended_here)


def _start(command: Sequence[str], *, folder: Path, start: str, number: int, port: int, num_processes: int) -> _Process:
    own = folder / str(number)
    own.mkdir(parents=True, exist_ok=True)
    fault, stderr = own / f"fault-{start}.json", own / f"stderr-{start}.txt"
    environment = {
        **os.environ,
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": str(num_processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        START_VARIABLE: start,
        FAULT_VARIABLE: str(fault.absolute()),
    }
    out: IO[bytes] | None = None
    err: IO[bytes] | int = subprocess.PIPE
    if number > 0:
        out = err = stderr.open("wb")
    popen = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,  # its end tells a process that nobody watches any more
        stdout=out,
        stderr=err,
        start_new_session=True,  # or the terminal would send Ctrl-C beside us
    )
    if out is not None:
        out.close()
    return _Process(number=number, popen=popen, fault=fault, stderr=stderr if number else None)


@contextmanager
def _signals_forwarded(processes: Sequence[_Process], forwarded: list[int]) -> Iterator[None]:
    def forward(number: int, frame: FrameType | None) -> None:
        del frame
        forwarded.append(number)
        for process in processes:
            process.popen.send_signal(number)

    before = {number: signal.signal(number, forward) for number in _FORWARDED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(processes: Sequence[_Process]) -> set[int]:
    """Waits until all have ended, and ends them if one has died; returns the numbers of those it has ended."""
    deadline: float | None = None
    ended_here: set[int] = set()
    while any(process.popen.poll() is None for process in processes):
        bad = [process.popen.returncode for process in processes if process.popen.poll() not in (None, 0)]
        now = time.monotonic()
        if bad and deadline is None:
            stopping = set(bad) <= {_EXIT_INTERRUPTED, _EXIT_PREEMPTED}
            deadline = now + (STOPPING_GRACE_SECONDS if stopping else GRACE_SECONDS)
        if deadline is not None and now > deadline:
            for process in processes:
                if process.popen.poll() is None:
                    late = now > deadline + _KILL_AFTER_SECONDS
                    process.popen.send_signal(signal.SIGKILL if late else signal.SIGTERM)
                    ended_here.add(process.number)
        time.sleep(_POLL_SECONDS)
    return ended_here


def _pump(processes: Sequence[_Process]) -> None:
    """Prints what the first process prints on stderr, until another one has failed.

    What comes then is its own trouble with losing the other; it is a moment late, so that this can be told.
    """
    first, others = processes[0], processes[1:]
    assert first.popen.stderr is not None
    while chunk := first.popen.stderr.read1():  # type: ignore[attr-defined]
        time.sleep(_HOLD_SECONDS)
        if not any(process.failed for process in others):
            sys.stderr.buffer.write(chunk)
            sys.stderr.flush()


def _tell(processes: Sequence[_Process], forwarded: Sequence[int], ended_here: set[int]) -> int:
    """Says why the processes have ended, if not well, and returns the exit status of the whole."""
    faults = sorted((process for process in processes if process.fault.exists()), key=_time_of_fault)
    if faults:
        fault = json.loads(faults[0].fault.read_text())
        print_fault(fault["kind"], fault["text"])
        return _EXIT_USER_ERROR
    by_itself = {process.number: process.popen.returncode for process in processes if process.number not in ended_here}
    asked = {-number for number in forwarded}
    statuses = set(by_itself.values())
    if _EXIT_USER_ERROR in statuses:
        return _EXIT_USER_ERROR
    if _EXIT_INTERRUPTED in statuses or (-signal.SIGINT in statuses & asked):
        return _EXIT_INTERRUPTED
    if _EXIT_PREEMPTED in statuses or statuses & asked:
        return _EXIT_PREEMPTED
    bad = [process for process in processes if by_itself.get(process.number, 0) != 0]
    if not bad:
        return 1 if ended_here else 0
    _show_end(bad[-1], num_processes=len(processes))
    return 1


def _time_of_fault(process: _Process) -> float:
    return process.fault.stat().st_mtime


def _show_end(process: _Process, *, num_processes: int) -> None:
    status = process.popen.returncode
    how = f"with status {status}"
    if status < 0:
        how = f"by {signal.Signals(-status).name}"
        if status == -signal.SIGKILL:
            how += ", as the system ends what asks for more memory than there is"
    print(f"velm_train: process {process.number} of {num_processes} has ended {how}", file=sys.stderr)
    if process.stderr is not None:
        lines = process.stderr.read_text(errors="replace").splitlines()
        print("\n".join(lines[-_SHOWN_LINES:]), file=sys.stderr)


def print_fault(kind: str, text: str) -> None:
    """Prints what a user can mend, in one line."""
    from rich.console import Console

    Console(stderr=True).print(f"[bold red]velm_train: {kind}:[/bold red] ", end="", soft_wrap=True)
    print(text.replace("\n", " "), file=sys.stderr)


def hand_in_fault(kind: str, text: str) -> bool:
    """Leaves what a user can mend to the supervisor; returns False if there is none."""
    path = os.environ.get(FAULT_VARIABLE)
    if path is None:
        return False
    write_atomic(Path(path), json.dumps({"kind": kind, "text": text}))
    return True


def end_with_supervisor() -> None:
    """Asks this process to stop as soon as its supervisor is gone; does nothing in a process without one."""
    if FAULT_VARIABLE not in os.environ:
        return

    def wait() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
