"""A batch of jobs in; which of them have to run, which have run before and which cannot, out."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from velm_train.cli.launch.child import EXIT_USER_ERROR
from velm_train.cli.launch.job import Job
from velm_train.cli.launch.record import DONE, JOB_NAME, JobRecord, new_record, read_job, submitted_again, write_job
from velm_train.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What to do with a batch.

    Attributes:
        run: jobs to run.
        done: number -> record of jobs that had finished before.
        refused: number -> record of jobs whose settings are impossible.
    """

    run: tuple[Job, ...]
    done: dict[int, JobRecord]
    refused: dict[int, JobRecord]


def plan_batch(jobs: Sequence[Job], *, problems: Mapping[int, str]) -> Plan:
    """Decides what becomes of each job, and writes nothing yet.

    Args:
        jobs: of the batch.
        problems: number -> why the settings of a job are impossible.

    Raises:
        ConfigError: if the folder of a job holds one with other words, or no job is possible.
        ArtifactError: if a job.json is damaged.
    """
    known = {job.number: read_job(job.folder) for job in jobs}
    for job in jobs:
        before = known[job.number]
        if before is not None and before.overrides != job.overrides:
            raise ConfigError(
                f"{job.folder} holds another job ({' '.join(before.overrides)}), not {' '.join(job.overrides)}; "
                "choose another hydra.sweep.dir, or repeat the words of the sweep to go on with it"
            )
    if jobs and len(problems) == len(jobs):
        number, problem = next(iter(problems.items()))
        others = f" (all {len(jobs)} jobs are impossible; this is job {number})" if len(jobs) > 1 else ""
        raise ConfigError(f"{problem}{others}")
    done = {number: record for number, record in known.items() if record is not None and record.state in DONE}
    refused = {
        job.number: dataclasses.replace(
            known[job.number] or new_record(job.number, job.overrides),
            state="failed",
            exit_status=EXIT_USER_ERROR,
            message=problems[job.number],
        )
        for job in jobs
        if job.number in problems and job.number not in done
    }
    run = tuple(job for job in jobs if job.number not in done and job.number not in refused)
    return Plan(run=run, done=done, refused=refused)


def mark_pending(jobs: Sequence[Job]) -> dict[int, JobRecord | None]:
    """Writes job.json of jobs that are about to be handed over; returns what it was, for `mark_back`."""
    before: dict[int, JobRecord | None] = {}
    for job in jobs:
        known = before[job.number] = read_job(job.folder)
        write_job(job.folder, new_record(job.number, job.overrides) if known is None else submitted_again(known))
    return before


def mark_back(jobs: Sequence[Job], before: Mapping[int, JobRecord | None]) -> None:
    """Undoes `mark_pending` after a batch that nobody took."""
    for job in jobs:
        known = before[job.number]
        if known is not None:
            write_job(job.folder, known)
            continue
        (job.folder / JOB_NAME).unlink()
        if not any(job.folder.iterdir()):
            job.folder.rmdir()


def mark_refused(sweep: Path, refused: Mapping[int, JobRecord]) -> None:
    """Writes job.json of jobs whose settings are impossible."""
    for number, record in refused.items():
        write_job(sweep / str(number), record)
