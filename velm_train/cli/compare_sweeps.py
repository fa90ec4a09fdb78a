"""Finished runs in; those that are jobs of one sweep together, rows of distinct settings with the seeds pooled, out."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from velm_train.cli.compare_read import FinishedRun
from velm_train.cli.job_outcomes import failure_of
from velm_train.cli.launch.record import JobRecord, read_job
from velm_train.cli.launch.sweep_file import read_sweep
from velm_train.cli.tracking import sweep_of
from velm_train.core.comparison import ComparedRun, Sweep, SweepRow, UnfinishedJob
from velm_train.core.errors import ArtifactError
from velm_train.core.objective import OBJECTIVES
from velm_train.core.scores import Score
from velm_train.core.study import read_study
from velm_train.metrics.seeds import mean_interval
from velm_train.reporting.compare_config import SEED_KEY, is_circumstance
from velm_train.reporting.compare_figures import RECALL, score_of

_NOT_OF_THE_RUN = ("hydra", "+", "~")


def find_sweeps(runs: Sequence[FinishedRun], compared: Sequence[ComparedRun]) -> tuple[Sweep, ...]:
    """Returns the sweeps that the runs are jobs of, in the order of their first run.

    Args:
        runs: finished.
        compared: the same, as they are shown.

    Raises:
        ArtifactError: if a file of a sweep is damaged.
    """
    members: dict[Path, list[int]] = defaultdict(list)
    for position, run in enumerate(runs):
        folder = sweep_of(run.folder)
        if folder is not None:
            members[folder].append(position)
    return tuple(
        _sweep(folder, {runs[i].folder.resolve().name: (runs[i], compared[i]) for i in positions})
        for folder, positions in members.items()
    )


def is_job_of(sweeps: Sequence[Sweep], folder: Path) -> bool:
    """True if a folder is that of a job without a figure that one of the sweeps tells of."""
    names = {(sweep.name, str(job.number)) for sweep in sweeps for job in sweep.unfinished}
    return (folder.resolve().parent.name, folder.name) in names


def _sweep(folder: Path, finished: Mapping[str, tuple[FinishedRun, ComparedRun]]) -> Sweep:
    words = {name: _words(folder / name) for name in _job_names(folder, finished)}
    keys = tuple(
        key
        for key in dict.fromkeys(key for settings in words.values() for key in settings)
        if key != SEED_KEY
        and not is_circumstance(key)
        and len({settings[key] if key in settings else "" for settings in words.values()}) > 1
    )
    objective = _objective(run for run, _ in finished.values())
    rows: dict[tuple[str, ...], list[ComparedRun]] = defaultdict(list)
    for name, (_, run) in finished.items():
        rows[_values(words[name], keys)].append(run)
    made = [_row(settings, _one_a_seed(runs), objective=objective) for settings, runs in rows.items()]
    return Sweep(
        name=folder.name,
        objective=objective,
        keys=keys,
        rows=tuple(sorted(made, key=lambda row: -1.0 if row.mean is None else row.mean, reverse=True)),
        unfinished=tuple(
            _unfinished(folder / name, settings=_values(words[name], keys)) for name in words if name not in finished
        ),
        study=read_study(folder),
    )


def _job_names(folder: Path, finished: Mapping[str, object]) -> list[str]:
    """Returns the folders of all jobs, by number."""
    known = read_sweep(folder)
    numbers = set() if known is None else {str(job.number) for job in known.jobs}
    found = {path.parent.name for path in folder.glob("*/job.json")}
    return sorted({*numbers, *found, *finished}, key=lambda name: (len(name), name))


def _words(folder: Path) -> dict[str, str]:
    """Returns setting -> value of a job's own words; those of Hydra itself if no launcher noted them."""
    job = read_job(folder)
    words = [] if job is None else list(job.overrides)
    return dict(word.split("=", 1) for word in words if "=" in word and not word.startswith(_NOT_OF_THE_RUN))


def _objective(runs: Iterable[FinishedRun]) -> str:
    names = {json.loads(run.settings["objective"]) for run in runs if "objective" in run.settings}
    return names.pop() if len(names) == 1 else OBJECTIVES[0]


def _values(settings: Mapping[str, str], keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(settings[key] if key in settings else "" for key in keys)


def _one_a_seed(runs: Sequence[ComparedRun]) -> list[ComparedRun]:
    """Returns the first run of every seed: a second one of the same seed would count the same draw twice."""
    first: dict[int | None, ComparedRun] = {}
    for run in runs:
        first.setdefault(run.seed, run)
    return list(first.values())


def _row(settings: tuple[str, ...], runs: Sequence[ComparedRun], *, objective: str) -> SweepRow:
    scores = [_score(run, objective) for run in runs]
    values = tuple(score.value for score in scores if score.value is not None)
    ends = mean_interval(values)
    if ends is None and len(values) == 1:
        (only,) = [score for score in scores if score.value is not None]
        low, high = only.low, only.high
    else:
        low, high = (None, None) if ends is None else ends
    return SweepRow(
        settings=settings,
        labels=tuple(run.label for run in runs),
        values=values,
        mean=sum(values) / len(values) if values else None,
        low=low,
        high=high,
    )


def _score(run: ComparedRun, objective: str) -> Score:
    return score_of(run, RECALL if objective == OBJECTIVES[0] else f"{RECALL}/{objective}")


def _unfinished(folder: Path, *, settings: tuple[str, ...]) -> UnfinishedJob:
    try:
        job: JobRecord | None = read_job(folder)
    except ArtifactError as error:
        return UnfinishedJob(number=_number(folder), settings=settings, state="failed", reason=str(error))
    if job is None:
        return UnfinishedJob(number=_number(folder), settings=settings, state="not started", reason="")
    reason = failure_of(job) if job.state == "failed" else job.message
    return UnfinishedJob(number=job.number, settings=settings, state=job.state, reason=reason)


def _number(folder: Path) -> int:
    return int(folder.name) if folder.name.isdecimal() else -1
