"""The folder of a sweep in; what has become of each of its jobs, from its files and from SLURM, out."""

import csv
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from velm_train.cli.launch.child import is_held
from velm_train.cli.launch.queue import Queue, QueuedJob, ask_slurm
from velm_train.cli.launch.record import JobRecord, new_record, read_job, seconds_since
from velm_train.cli.launch.sweep_file import SweepFile, SweptJob
from velm_train.core.artifacts import write_atomic
from velm_train.core.objective import read_objective

STATUS_NAME = "status.json"
STATUS_VERSION = 1
TO_RESUBMIT = frozenset(
    {
        "failed",
        "preempted",
        "lost",
        "not started",
        "cancelled",
        "timeout",
        "node_fail",
        "out_of_memory",
        "boot_fail",
        "deadline",
        "revoked",
        "completed",  # SLURM saw an end that the job never wrote down
    }
)
"""States that `task=resubmit` runs again; the last ones are SLURM's word for jobs that had no time for their own."""

_HISTORIES = ("training/history.csv", "csv/metrics.csv")
_LOSS, _STEP = "loss/total", "step"
_SILENT = "SLURM cannot be asked on this machine"


@dataclass(frozen=True, kw_only=True, slots=True)
class JobView:
    """One job as it is shown.

    Attributes:
        overrides: its words.
        state: of job.json, or what SLURM says if the job had no time to write it; lost if neither knows it.
        metric: name and value of the objective, else of the last training loss; "" for neither.
        step: of that loss, or None.
        node: of the last attempt, or "".
        restarts: attempts after the first.
        seconds: it has run, all attempts together.
        note: why it waits, or the last line of what went wrong.
    """

    number: int
    overrides: tuple[str, ...]
    state: str
    metric: str
    step: int | None
    node: str
    restarts: int
    seconds: float
    note: str


def view_sweep(folder: Path, sweep: SweepFile) -> tuple[JobView, ...]:
    """Returns every job of a sweep.

    Raises:
        ArtifactError: if the job.json of one is damaged.
    """
    ids = [job.scheduler_job_id for job in sweep.jobs if job.scheduler_job_id is not None]
    queue = ask_slurm(ids) if ids else Queue(answered=False, jobs={})
    return tuple(_view(folder / str(job.number), job, queue=queue, launcher=sweep.launcher) for job in sweep.jobs)


def _view(folder: Path, job: SweptJob, *, queue: Queue, launcher: str) -> JobView:
    record = read_job(folder) or new_record(job.number, job.overrides)
    queued = queue.jobs[job.scheduler_job_id] if job.scheduler_job_id in queue.jobs else None
    if launcher != "slurm":
        state, note = _process_state(record, folder)
    elif job.scheduler_job_id is None and record.state == "pending":
        state, note = "not started", "it was not submitted"
    else:
        state, note = _slurm_state(record, queued, queue=queue)
    metric, step = _progress(folder)
    running = state == "running" and record.started is not None
    return JobView(
        number=job.number,
        overrides=job.overrides,
        state=state,
        metric=metric,
        step=step,
        node=(queued.node if queued is not None and queued.node else record.host) or "",
        restarts=max(0, record.attempts - 1),
        seconds=record.seconds + (seconds_since(record.started) if running and record.started else 0.0),
        note=note,
    )


def _slurm_state(record: JobRecord, queued: QueuedJob | None, *, queue: Queue) -> tuple[str, str]:
    """Joins what the job wrote with what SLURM says; the job's own word counts once it has ended."""
    own = (record.state, record.message)
    if record.state in {"finished", "pruned", "failed"}:
        return own
    if queued is None:
        return own if record.state == "preempted" and queue.answered else _state_unknown_to_slurm(record, queue)
    if queued.state == "CANCELLED":
        return "cancelled", ""
    if queued.active:
        return ("running", "") if queued.running else ("pending", queued.reason)
    return own if record.state == "preempted" else (queued.state.lower(), record.message)


def _state_unknown_to_slurm(record: JobRecord, queue: Queue) -> tuple[str, str]:
    return ("lost", "SLURM does not know it") if queue.answered else (record.state, _SILENT)


def _process_state(record: JobRecord, folder: Path) -> tuple[str, str]:
    """Tells a job that runs from one whose process is gone, by its lock."""
    if record.state == "running" and not is_held(folder):
        return "lost", "its process is gone"
    return ("not started", "") if record.state == "pending" else (record.state, record.message)


def _progress(folder: Path) -> tuple[str, int | None]:
    """Returns what a run came to, else its last training loss and the step of it."""
    objective = read_objective(folder)
    loss, step = _last_loss(folder)
    if objective is not None and objective.value is not None:
        return f"{objective.name} {objective.value:.4f}", step
    return ("" if loss is None else f"loss {loss:.4f}"), step


def _last_loss(folder: Path) -> tuple[float | None, int | None]:
    for name in _HISTORIES:
        path = folder / name
        if not path.is_file():
            continue
        with path.open(newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if _LOSS in row and row[_LOSS] and row[_STEP]]
        if rows:
            return float(rows[-1][_LOSS]), int(float(rows[-1][_STEP]))
    return None, None


def differing_words(jobs: Sequence[Sequence[str]]) -> list[str]:
    """Returns of each job the words that not all jobs have, as one text; all words of a job that is alone.

    What a search adds for itself, such as the name of its trial, is left out.
    """
    common = set.intersection(*(set(words) for words in jobs)) if len(jobs) > 1 else set()
    return [
        " ".join(word for word in words if word not in common and not word.startswith("++hydra.")) for words in jobs
    ]


def overview_table(views: Sequence[JobView], *, title: str) -> Table:
    """Returns the table of a sweep's jobs."""
    table = Table(title=title, title_justify="left")
    for name in ("job", "words that differ", "state", "last figure", "step", "node", "restarts", "seconds", "note"):
        table.add_column(name, justify="right" if name in {"job", "step", "restarts", "seconds"} else "left")
    words = differing_words([view.overrides for view in views])
    for view, text in zip(views, words, strict=True):
        cells = (
            str(view.number),
            text,
            view.state,
            view.metric,
            "" if view.step is None else str(view.step),
            view.node,
            str(view.restarts),
            f"{view.seconds:.0f}",
            view.note,
        )
        table.add_row(*(cell.replace("[", r"\[") for cell in cells))
    return table


def write_status(folder: Path, views: Sequence[JobView]) -> None:
    """Writes status.json, the table for programs, into the folder of a sweep."""
    body = {"version": STATUS_VERSION, "jobs": [dataclasses.asdict(view) for view in views]}
    write_atomic(folder / STATUS_NAME, json.dumps(body, indent=1) + "\n")


def counted_states(views: Sequence[JobView]) -> str:
    """Returns how many jobs are in which state, in one line."""
    states = [view.state for view in views]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
