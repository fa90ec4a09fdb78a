"""job.json of a job's folder: what has become of one job of a sweep, written at every change and read back."""

import dataclasses
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from velm_train.core.artifacts import write_atomic
from velm_train.core.errors import ArtifactError, DataError
from velm_train.core.plain import read_record

JOB_NAME = "job.json"
JOB_VERSION = 1

State = Literal["pending", "running", "finished", "failed", "preempted", "pruned"]
DONE: tuple[State, ...] = ("finished", "pruned")
"""States of jobs that are not run again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRecord:
    """One job of a sweep.

    Attributes:
        number: within the sweep, from 0.
        overrides: its words, without Hydra's own.
        state: preempted if it was stopped with everything saved and nobody starts it again by itself.
        attempts: how often it was started.
        requeues: how often it was put back into SLURM's queue since it was last submitted.
        exit_status: of the last attempt; negative for the signal that killed it, None while there is none.
        message: what to know about the end, or "".
        scheduler_job_id: SLURM's id, or None for a process.
        host: of the last attempt.
        submitted: when, ISO 8601 in UTC, as all times.
        started: the last attempt, or None.
        ended: the last attempt, or None.
        seconds: of all attempts that have ended.
    """

    schema_version: int
    number: int
    overrides: tuple[str, ...]
    state: State
    attempts: int
    requeues: int
    exit_status: int | None
    message: str
    scheduler_job_id: str | None
    host: str | None
    submitted: str
    started: str | None
    ended: str | None
    seconds: float


def new_record(number: int, overrides: tuple[str, ...]) -> JobRecord:
    """Returns the record of a job that was never started."""
    return JobRecord(
        schema_version=JOB_VERSION,
        number=number,
        overrides=overrides,
        state="pending",
        attempts=0,
        requeues=0,
        exit_status=None,
        message="",
        scheduler_job_id=None,
        host=None,
        submitted=utc_now(),
        started=None,
        ended=None,
        seconds=0.0,
    )


def submitted_again(record: JobRecord) -> JobRecord:
    """Returns the record of a job that waits for its next attempt."""
    return dataclasses.replace(
        record,
        state="pending",
        requeues=0,
        exit_status=None,
        message="",
        scheduler_job_id=None,
        submitted=utc_now(),
        ended=None,
    )


def write_job(folder: Path, record: JobRecord) -> None:
    """Writes job.json so that readers see the old state or the new."""
    write_atomic(folder / JOB_NAME, json.dumps(dataclasses.asdict(record), indent=1) + "\n")


def read_job(folder: Path) -> JobRecord | None:
    """Returns what has become of the job of a folder, or None if it never got one.

    Raises:
        ArtifactError: if the file is damaged or of another version.
    """
    path = folder / JOB_NAME
    try:
        return read_record(JobRecord, json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, json.JSONDecodeError, DataError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}; remove it to run the job anew") from error


def utc_now() -> str:
    """Returns the time as text, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def seconds_since(text: str) -> float:
    """Returns the seconds since a time that `utc_now` gave."""
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds())
