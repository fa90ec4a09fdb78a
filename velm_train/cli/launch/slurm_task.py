"""What SLURM starts: one task of a job in; the job's own process beside it, and a requeue where it was stopped, out."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from velm_train.cli.launch.child import EXIT_PREEMPTED, LOG_NAME, JobBusyError, JobDoneError, RunningJob, start_process
from velm_train.cli.launch.job import Job
from velm_train.cli.launch.record import JobRecord, new_record, read_job, utc_now, write_job
from velm_train.cli.launch.signals import Inbox, collecting
from velm_train.core.interrupts import PREEMPTION_SIGNALS

POLL_SECONDS = 0.2
PEER_POLL_SECONDS = 2.0
PATIENCE_SECONDS = 120.0
"""How long an attempt waits for the one before to end, whose node may have been taken for dead."""

CLIENT_SECONDS = 60
EXIT_FAULT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a task stands in its job, from SLURM's environment.

    Attributes:
        job_id: with the array's number, such as 12_3.
        raw_job_id: that every tool takes, also within an array.
        rank: of this task.
        num_tasks: of the job.
        restarts: how often SLURM has started the job before.
    """

    job_id: str
    raw_job_id: str
    rank: int
    num_tasks: int
    restarts: int


def find_place() -> Place:
    """Reads the place of this task."""
    env = os.environ
    raw = env["SLURM_JOB_ID"]
    array = "SLURM_ARRAY_JOB_ID" in env
    return Place(
        job_id=f"{env['SLURM_ARRAY_JOB_ID']}_{env['SLURM_ARRAY_TASK_ID']}" if array else raw,
        raw_job_id=raw,
        rank=int(env["SLURM_PROCID"]),
        num_tasks=int(env["SLURM_NTASKS"]),
        restarts=int(env["SLURM_RESTART_COUNT"]) if "SLURM_RESTART_COUNT" in env else 0,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchedJob:
    """A job as it is handed to submitit, plain enough to be pickled.

    Attributes:
        job: what to run.
        max_requeues: most attempts after the first.
    """

    job: Job
    max_requeues: int

    def __call__(self) -> None:
        """Runs this task of the job; a warning is passed on, and once everything is saved the job goes to the queue.

        Raises:
            SystemExit: with the job's exit status, unless it is 0.
        """
        place = find_place()
        with collecting(PREEMPTION_SIGNALS) as inbox:
            status = self._lead(place, inbox) if place.rank == 0 else self._follow(place, inbox)
        if status != 0:
            sys.exit(status)

    def _lead(self, place: Place, inbox: Inbox) -> int:
        """Runs the first task, which alone keeps job.json and asks for a requeue."""
        folder = self.job.folder
        if place.restarts > self.max_requeues:
            record = read_job(folder) or new_record(self.job.number, self.job.overrides)
            _give_up(folder, record, f"started again {place.restarts} times, hydra.launcher.max_requeues allows fewer")
            return EXIT_FAULT
        try:
            running = RunningJob(
                self.job,
                scheduler_job_id=place.job_id,
                requeues=place.restarts,
                patience_seconds=PATIENCE_SECONDS,
                own_session=False,
            )
        except JobDoneError:  # by an attempt whose node was taken for dead
            return 0
        except JobBusyError as error:
            print(error, flush=True)
            return EXIT_FAULT
        broken = _watch(running, inbox, folder=folder, place=place)
        record = running.finish()
        if broken:
            write_job(folder, dataclasses.replace(record, state="failed", message=broken))
            return record.exit_status or EXIT_FAULT
        if record.state == "preempted":
            self._put_back(record, place)
            return EXIT_PREEMPTED
        assert record.exit_status is not None
        return record.exit_status if record.exit_status >= 0 else 128 - record.exit_status

    def _put_back(self, record: JobRecord, place: Place) -> None:
        """Has SLURM queue the job once more, in the same folder, unless somebody cancelled it."""
        folder = self.job.folder
        if _is_cancelled(place):
            write_job(folder, dataclasses.replace(record, message="cancelled"))
            return
        if place.restarts >= self.max_requeues:
            message = f"stopped for good: hydra.launcher.max_requeues={self.max_requeues}; task=resubmit goes on"
            write_job(folder, dataclasses.replace(record, message=message))
            return
        waits = dataclasses.replace(record, state="pending", requeues=place.restarts + 1)
        write_job(folder, waits)  # before the request, which ends this process as well
        problem = _requeue(place)
        if problem:
            write_job(folder, dataclasses.replace(record, message=f"saved, but not requeued: {problem}"))

    def _follow(self, place: Place, inbox: Inbox) -> int:
        """Runs another task: a rank with a log of its own. That it was stopped is for the first task to say."""
        own = self.job.folder / ".ranks" / str(place.rank)
        own.mkdir(parents=True, exist_ok=True)
        with (own / LOG_NAME).open("ab") as log:
            process = start_process(self.job, output=log.fileno(), keep=(), own_session=False)
        sent: list[int] = []
        while (status := process.poll()) is None:
            for number in inbox.new():
                process.send_signal(number)
                sent.append(number)
            if _broken_peer(self.job.folder, place):
                process.kill()
            time.sleep(POLL_SECONDS)
        if status < 0:
            time.sleep(POLL_SECONDS)  # the same signal may be on its way to this process
            sent += inbox.new()
        if status in {0, EXIT_PREEMPTED} or -status in sent:
            return 0
        _mark_broken(self.job.folder, place, status)
        return status if status > 0 else 128 - status


def _watch(running: RunningJob, inbox: Inbox, *, folder: Path, place: Place) -> str:
    """Waits for the process, passing signals on; returns what has become of a peer if that is why it had to end."""
    broken = ""
    looked = time.monotonic()
    while running.poll() is None:
        for number in inbox.new():
            print(f"{signal.Signals(number).name}: passed on to the job, which saves and stops", flush=True)
            running.send(number)
        if place.num_tasks > 1 and time.monotonic() - looked > PEER_POLL_SECONDS:
            looked = time.monotonic()
            broken = broken or _broken_peer(folder, place)
            if broken:
                running.send(signal.SIGKILL)
        time.sleep(POLL_SECONDS)
    status = running.poll()
    if status is not None and status < 0 and not broken:
        time.sleep(POLL_SECONDS)  # the same signal may be on its way to this process
        running.outlive(inbox.new(), patience_seconds=PATIENCE_SECONDS)
    if place.num_tasks > 1 and not broken:
        broken = _broken_peer(folder, place)
        if not broken and running.has_failed:
            _mark_broken(folder, place, running.poll())
    return broken


def _give_up(folder: Path, record: JobRecord, message: str) -> None:
    write_job(folder, dataclasses.replace(record, state="failed", message=message, ended=utc_now()))


def _marks(folder: Path, place: Place) -> Path:
    """Returns where the tasks of one attempt say that they broke, so that none waits for another for ever."""
    return folder / ".ranks" / f"broken-{place.raw_job_id}-{place.restarts}"


def _mark_broken(folder: Path, place: Place, status: int | None) -> None:
    marks = _marks(folder, place)
    marks.mkdir(parents=True, exist_ok=True)
    (marks / str(place.rank)).write_text(f"rank {place.rank} ended with exit status {status}")


def _broken_peer(folder: Path, place: Place) -> str:
    marks = _marks(folder, place)
    found = sorted(path for path in marks.glob("*") if path.name != str(place.rank)) if marks.is_dir() else []
    if not found:
        return ""
    return f"{found[0].read_text()}; see .ranks/{found[0].name}/{LOG_NAME}"


def _is_cancelled(place: Place) -> bool:
    """True if a person cancelled the job: SLURM sends the same signal as before it takes the node away."""
    _, shown = _scontrol("show", "job", "-o", place.raw_job_id)
    return told_to_end(shown)


def told_to_end(shown: str) -> bool:
    """True if SLURM is ending a job for good, going by what `scontrol show job -o` says of it.

    A job that was cancelled is shown as COMPLETING until its processes are gone, and so is one that has used up its
    time; what SLURM puts back into the queue by itself needs nobody to ask for it.
    """
    fields = dict(word.split("=", maxsplit=1) for word in shown.split() if "=" in word)
    if "JobState" not in fields or fields["JobState"] not in {"CANCELLED", "COMPLETING"}:
        return False
    return fields["JobState"] == "CANCELLED" or not _has_used_its_time(fields["RunTime"], fields["TimeLimit"])


def _has_used_its_time(run_time: str, limit: str) -> bool:
    return limit[0].isdigit() and _seconds(run_time) >= _seconds(limit)


def _seconds(text: str) -> int:
    """Reads SLURM's days-hours:minutes:seconds."""
    days, _, clock = text.rpartition("-")
    hours, minutes, seconds = (int(part) for part in clock.split(":"))
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def _requeue(place: Place) -> str:
    """Asks SLURM to queue the job again; returns why it does not, or ""."""
    status, shown = _scontrol("requeue", place.raw_job_id)
    return "" if status == 0 else shown.strip().splitlines()[-1] if shown.strip() else f"scontrol ended with {status}"


def _scontrol(*words: str) -> tuple[int, str]:
    try:
        done = subprocess.run(
            ["scontrol", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=CLIENT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return EXIT_FAULT, str(error)
    return done.returncode, done.stdout
