"""Jobs and a launcher's settings in; jobs that have run here, or were handed to SLURM, out."""

import signal
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from rich.console import Console

from velm_train.cli.launch.job import Job
from velm_train.cli.launch.overview import JobView, view_sweep
from velm_train.cli.launch.plan import mark_back, mark_pending
from velm_train.cli.launch.pool import run_jobs
from velm_train.cli.launch.slurm_submit import submit
from velm_train.cli.launch.sweep_file import SweptJob, read_sweep, write_sweep
from velm_train.config.launching import ProcessSettings, SlurmSettings
from velm_train.core.errors import ResourceError, VelmError
from velm_train.core.interrupts import Preempted
from velm_train.core.locks import sole_right

LOCK_NAME = ".launcher.lock"
UNDECIDED = frozenset({"pending", "running", "completing"})
LOST_AFTER_LOOKS = 5
"""So often a job may be unknown to SLURM and to its own file before it counts as lost: both may lag behind."""


def sole_launcher(sweep: Path) -> AbstractContextManager[bool]:
    """Refuses a second launcher for the same sweep while the `with` block lasts."""
    sweep.mkdir(parents=True, exist_ok=True)

    def refuse() -> None:
        raise ResourceError(f"{sweep} is being run by another process; wait for its end, or choose another folder")

    return sole_right(sweep / LOCK_NAME, on_wait=refuse)


def run_here(jobs: Sequence[Job], *, sweep: Path, settings: ProcessSettings, console: Console) -> None:
    """Runs jobs as processes of this machine.

    Raises:
        KeyboardInterrupt: after Ctrl-C, once everything that ran has saved and stopped.
        Preempted: after another stop signal, likewise.
    """
    mark_pending(jobs)

    def tell(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    _, stopped = run_jobs(jobs, max_parallel=settings.max_parallel, tell=tell)
    if stopped is not None:
        tell(f"the same command with hydra.sweep.dir={sweep} goes on with this sweep")
        raise KeyboardInterrupt if stopped == signal.SIGINT else Preempted(stopped)


def hand_to_slurm(jobs: Sequence[Job], *, sweep: Path, settings: SlurmSettings, console: Console) -> None:
    """Submits jobs and notes their ids.

    Raises:
        ConfigError: if SLURM does not take them.
        ResourceError: if SLURM does not answer.
    """
    before = mark_pending(jobs)
    try:
        ids = submit(jobs, settings=settings, sweep=sweep, name=f"velm_train-{sweep.name}")
    except VelmError:
        mark_back(jobs, before)
        raise
    known = read_sweep(sweep)
    assert known is not None
    handed = tuple(
        SweptJob(number=job.number, overrides=job.overrides, scheduler_job_id=ids[job.number]) for job in jobs
    )
    write_sweep(sweep, known.with_jobs(handed))
    first, last = ids[jobs[0].number], ids[jobs[-1].number]
    span = first if len(jobs) == 1 else f"{first} to {last}"
    console.print(
        f"submitted {len(jobs)} job{'s' if len(jobs) > 1 else ''} to SLURM: {span}\n"
        f"  see them:     python -m velm_train task=status sweep={sweep}\n"
        f"  failed ones:  python -m velm_train task=resubmit sweep={sweep}\n"
        f"  cancel:       scancel {first.split('_')[0]}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def await_end(numbers: Sequence[int], *, sweep: Path, poll_seconds: float, console: Console) -> None:
    """Stays until jobs of a sweep have ended; the jobs do not need it, so Ctrl-C ends the waiting alone.

    Args:
        numbers: of the jobs.
        sweep: folder of the sweep.
        poll_seconds: between looks.
        console: gets a line when a job has ended.
    """
    console.print("waiting for the jobs; Ctrl-C ends the waiting, not the jobs", highlight=False)
    open_numbers = set(numbers)
    looks_lost = dict.fromkeys(numbers, 0)
    while open_numbers:
        for view in _views(sweep):
            if view.number not in open_numbers or view.state in UNDECIDED:
                continue
            looks_lost[view.number] += 1
            if view.state == "lost" and looks_lost[view.number] < LOST_AFTER_LOOKS:
                continue
            open_numbers.remove(view.number)
            why = f": {view.note}" if view.note else ""
            line = f"job {view.number} {view.state} after {view.seconds:.0f} s{why}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        if open_numbers:
            time.sleep(poll_seconds)


def _views(sweep: Path) -> tuple[JobView, ...]:
    known = read_sweep(sweep)
    assert known is not None
    return view_sweep(sweep, known)
