"""The folder of a sweep's job in; whether it finished, with which figure, or why not, out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from velm_train.cli.launch.record import JobRecord, read_job
from velm_train.core.errors import ArtifactError
from velm_train.core.objective import read_objective

NO_FIGURE = "its test images do not define the objective"

_UNDECIDED = ("pending", "running", "preempted")


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a job.

    Attributes:
        state: open if it was stopped and can go on, or has not begun.
        value: the objective of a finished job.
        reason: why it failed, or why it is open, or "".
    """

    state: Literal["finished", "pruned", "failed", "open"]
    value: float | None
    reason: str


def outcome_of(folder: Path) -> Outcome:
    """Returns what became of the job whose run folder this is."""
    try:
        objective = read_objective(folder)
        job = read_job(folder)
    except ArtifactError as error:
        return Outcome(state="failed", value=None, reason=str(error))
    if objective is not None and objective.state == "pruned":
        return Outcome(state="pruned", value=None, reason="")
    if objective is not None and objective.value is None:
        return Outcome(state="failed", value=None, reason=NO_FIGURE)
    if objective is not None:
        return Outcome(state="finished", value=objective.value, reason="")
    if job is not None and job.state in _UNDECIDED:
        return Outcome(state="open", value=None, reason=job.state)
    return Outcome(state="failed", value=None, reason=failure_of(job))


def failure_of(job: JobRecord | None) -> str:
    """Returns why a job left no figure, as its launcher noted it."""
    if job is None or job.exit_status is None:
        return "left no figure"
    return f"exit status {job.exit_status}" + (f": {job.message}" if job.message else "")
