"""Jobs in; each run as a process of this machine, so many at a time, and their records out."""

import signal
import time
from collections.abc import Callable, Sequence

from velm_train.cli.launch.child import JobBusyError, JobDoneError, RunningJob
from velm_train.cli.launch.job import Job
from velm_train.cli.launch.record import JobRecord
from velm_train.cli.launch.signals import Inbox, collecting
from velm_train.core.interrupts import STOP_SIGNALS

POLL_SECONDS = 0.05
PATIENT_SIGNALS = 2
"""So many stop signals are passed on; the next one kills."""

Tell = Callable[[str], None]


def run_jobs(jobs: Sequence[Job], *, max_parallel: int, tell: Tell) -> tuple[dict[int, JobRecord], int | None]:
    """Runs jobs to their end, in their order; one that fails does not end the others.

    A stop signal is passed on to what runs, and nothing more is started.

    Args:
        jobs: to run.
        max_parallel: at a time, 1 or more.
        tell: is given one line when a job starts and when it ends.

    Returns:
        (records, signal): number of the job -> how it ended, of those that were started; what asked to stop, or None.
    """
    waiting = list(jobs)
    running: dict[int, RunningJob] = {}
    ended: dict[int, JobRecord] = {}
    with collecting(STOP_SIGNALS) as inbox:
        while running or (waiting and not inbox.arrived):
            while waiting and len(running) < max_parallel and not inbox.arrived:
                job = waiting.pop(0)
                started = _start(job, tell=tell)
                if started is not None:
                    running[job.number] = started
            _pass_on(inbox, running, tell=tell)
            for number in [number for number, one in running.items() if one.poll() is not None]:
                ended[number] = running.pop(number).finish()
                tell(ended_line(ended[number]))
            time.sleep(POLL_SECONDS)
    return ended, inbox.arrived[0] if inbox.arrived else None


def _start(job: Job, *, tell: Tell) -> RunningJob | None:
    """Starts a job, unless a process that an earlier launcher left behind is still at it."""
    try:
        running = RunningJob(job)
    except JobDoneError:
        tell(f"job {job.number} has finished meanwhile")
        return None
    except JobBusyError as error:
        tell(str(error))
        return None
    tell(f"job {job.number}: {' '.join(job.overrides)}")
    return running


def ended_line(record: JobRecord) -> str:
    """Returns what the console says of the end of a job."""
    why = f": {record.message}" if record.message else ""
    status = "" if record.exit_status in {0, None} else f" with exit status {record.exit_status}"
    return f"job {record.number} {record.state}{status} after {record.seconds:.0f} s{why}"


def _pass_on(inbox: Inbox, running: dict[int, RunningJob], *, tell: Tell) -> None:
    new = inbox.new()
    for number in new:
        kills = len(inbox.arrived) > PATIENT_SIGNALS
        for one in running.values():
            one.send(signal.SIGKILL if kills else number)
    if new and running:
        fate = "killed" if len(inbox.arrived) > PATIENT_SIGNALS else "asked to save and stop"
        tell(f"{signal.Signals(new[-1]).name}: {len(running)} running jobs are {fate}")
