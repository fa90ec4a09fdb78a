"""A job in; its process, watched from start to end, and job.json at every change of it, out."""

import dataclasses
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from velm_train.cli.launch.job import Job
from velm_train.cli.launch.record import (
    DONE,
    JobRecord,
    State,
    new_record,
    read_job,
    seconds_since,
    utc_now,
    write_job,
)
from velm_train.core.errors import ResourceError
from velm_train.core.locks import is_locked, try_lock
from velm_train.core.objective import read_objective

EXIT_USER_ERROR, EXIT_PREEMPTED, EXIT_INTERRUPTED = 2, 75, 130
LOG_NAME = "job.log"
LOCK_NAME = ".job.lock"
_TAIL_BYTES = 8192
_HINT = "Set the environment variable HYDRA_FULL_ERROR"
"""What Hydra adds below every traceback."""

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class JobBusyError(ResourceError):
    """Another process runs the job already."""


class JobDoneError(Exception):
    """Another process has brought the job to its end meanwhile; nothing went wrong."""


class RunningJob:
    """The process of a job.

    The lock of the job's folder is handed down to the process, so that it is held until the process itself has ended,
    whatever happens to whoever started it.
    """

    def __init__(
        self,
        job: Job,
        *,
        scheduler_job_id: str | None = None,
        requeues: int = 0,
        patience_seconds: float = 2.0,
        own_session: bool = True,
    ) -> None:
        """Starts the process and says so in job.json.

        Args:
            job: what to run.
            scheduler_job_id: SLURM's id, if it is SLURM that starts it.
            requeues: how often SLURM has started it before.
            patience_seconds: how long to wait for a process of an earlier attempt to end.
            own_session: whether the terminal's Ctrl-C is kept from it, so that each signal comes once, by `send`.

        Raises:
            JobBusyError: if a process runs the job already.
            JobDoneError: if the job has finished.
        """
        self._job = job
        self._sent: list[int] = []
        self._process: subprocess.Popen[bytes] | None = None
        job.folder.mkdir(parents=True, exist_ok=True)
        self._lock: int | None = _hold(job, patience_seconds=patience_seconds)
        try:
            before = read_job(job.folder) or new_record(job.number, job.overrides)
            if before.state in DONE:
                raise JobDoneError
            self.record = dataclasses.replace(
                before,
                state="running",
                attempts=before.attempts + 1,
                requeues=requeues,
                exit_status=None,
                message="",
                scheduler_job_id=scheduler_job_id,
                host=socket.gethostname(),
                started=utc_now(),
                ended=None,
            )
            write_job(job.folder, self.record)
            self._start(own_session=own_session)
        except BaseException:
            os.close(self._lock)
            raise

    def _start(self, *, own_session: bool) -> None:
        with (self._job.folder / LOG_NAME).open("ab") as log:
            title = f"== attempt {self.record.attempts}, {self.record.started}, {self.record.host}\n"
            log.write(title.encode())
            log.flush()
            assert self._lock is not None
            try:
                keep = (self._lock,)
                self._process = start_process(self._job, output=log.fileno(), keep=keep, own_session=own_session)
            except OSError as error:
                log.write(f"cannot start {self._job.command[0]}: {error.strerror}\n".encode())

    def poll(self) -> int | None:
        """Returns the exit status, or None while the process runs; one that could not be started ends with 2."""
        return EXIT_USER_ERROR if self._process is None else self._process.poll()

    @property
    def has_failed(self) -> bool:
        """Whether the process has ended, neither done nor asked to."""
        status = self.poll()
        return status is not None and self._state(status) == "failed"

    def send(self, number: int) -> None:
        """Sends a signal; what ends after one was stopped, not broken."""
        self._sent.append(number)
        if self._process is not None:
            self._process.send_signal(number)

    def outlive(self, arrived: Iterable[int], *, patience_seconds: float) -> None:
        """Waits for what goes on behind a process that has ended: what a container's front was ended by, saves inside.

        Args:
            arrived: signals that the scheduler has sent to all processes of the job.
            patience_seconds: how long to wait at most.
        """
        self._sent += arrived
        assert self._lock is not None
        os.close(self._lock)  # of which the inside has a copy
        try:
            self._lock = _hold(self._job, patience_seconds=patience_seconds)
        except JobBusyError:  # it counts as stopped all the same, and whoever requeues it ends what is left
            self._lock = None

    def finish(self) -> JobRecord:
        """Writes down how the process ended, which it has to have done; returns the record."""
        status = self.poll()
        assert status is not None
        assert self.record.started is not None
        self.record = dataclasses.replace(
            self.record,
            state=self._state(status),
            exit_status=status,
            message="" if status in {0, EXIT_PREEMPTED, EXIT_INTERRUPTED} else ending(self._job.folder, status),
            ended=utc_now(),
            seconds=self.record.seconds + seconds_since(self.record.started),
        )
        write_job(self._job.folder, self.record)
        if self._lock is not None:
            os.close(self._lock)
        return self.record

    def _state(self, status: int) -> State:
        if status == 0:
            objective = read_objective(self._job.folder)
            return "pruned" if objective is not None and objective.state == "pruned" else "finished"
        if status in {EXIT_PREEMPTED, EXIT_INTERRUPTED}:
            return "preempted"
        # A signal before the program could take it over ends it at once; it has nothing to lose by then.
        return "preempted" if -status in self._sent and status != -signal.SIGKILL else "failed"


def start_process(job: Job, *, output: int, keep: tuple[int, ...], own_session: bool) -> "subprocess.Popen[bytes]":
    """Starts the command of a job with nothing to read and both outputs in one file."""
    return subprocess.Popen(
        job.command,
        cwd=job.working_dir,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        pass_fds=keep,
        start_new_session=own_session,
    )


def ending(folder: Path, status: int) -> str:
    """Returns the last line of a job's log, or what killed it."""
    if status == -signal.SIGKILL:
        return "killed by SIGKILL, which is how a machine ends what takes too much memory"
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return last_line(folder / LOG_NAME)


def last_line(path: Path) -> str:
    """Returns the last line of a log that says something, or "" if there is none."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            text = stream.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in _ESCAPES.sub("", text).replace("\r", "\n").splitlines()]
    said = [line for line in lines if line and not line.startswith(_HINT)]
    return said[-1] if said else ""


def is_held(folder: Path) -> bool:
    """True while a process runs the job of a folder, as far as the file system knows locks."""
    return is_locked(folder / LOCK_NAME)


def _hold(job: Job, *, patience_seconds: float) -> int:
    """Returns the descriptor of the job's lock, held."""
    descriptor = os.open(job.folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o666)
    given_up = time.monotonic() + patience_seconds
    while not try_lock(descriptor):
        if time.monotonic() >= given_up:
            os.close(descriptor)
            raise JobBusyError(
                f"job {job.number} in {job.folder} is being run by another process; wait for its end, or end it"
            )
        time.sleep(1.0)
    return descriptor
