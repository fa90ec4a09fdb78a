"""Folders as the user names them in, finished runs out; what is not finished or cannot be read is named."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from velm_train.cli.compare_read import (
    CONFIG,
    PREDICTIONS,
    RESULTS,
    FinishedRun,
    is_earlier_part,
    is_finished,
    read_run,
    read_settings,
)
from velm_train.core.comparison import SkippedFolder
from velm_train.core.errors import ArtifactError, DataError

_MARKS_OF_A_RUN = (CONFIG, "main.log", ".hydra")


def find_finished_runs(
    given: Sequence[str], *, apart: Path
) -> tuple[tuple[FinishedRun, ...], tuple[SkippedFolder, ...]]:
    """Reads the runs named, and those below folders that are no run themselves.

    Args:
        given: run folders, folders of runs or sweeps, folders of W&B runs.
        apart: the folder of the comparison itself, which is none of the runs.

    Returns:
        (runs, skipped): in the order given, and by path within a folder; what could not be compared.

    Raises:
        DataError: if a folder is absent, named twice, or fewer than two finished runs are found.
        ArtifactError: if a run that was named itself cannot be read.
    """
    runs: list[FinishedRun] = []
    skipped: list[SkippedFolder] = []
    for text in given:
        folder = Path(text).expanduser()
        if not folder.is_dir():
            raise DataError(f"runs: {text} is no folder; name run folders, folders of runs, or folders of W&B runs")
        if is_finished(folder):
            runs.append(read_run(folder))
            continue
        found, unread = _runs_below(folder, apart=apart)
        runs += found
        skipped += unread
    places = [run.folder.resolve() for run in runs]
    twice = [str(run.folder) for run, place in zip(runs, places, strict=True) if places.count(place) > 1]
    if twice:
        raise DataError(f"runs: {twice[0]} is named twice; name each run once")
    if len(runs) < 2:
        reasons = "; ".join(f"{one.folder}: {one.reason}" for one in skipped[:3])
        raise DataError(
            f"runs={list(given)} holds {len(runs)} finished run{'s' if len(runs) != 1 else ''}; two or more are "
            f"needed, each with {RESULTS} and {PREDICTIONS}, or a finished W&B run{f' ({reasons})' if reasons else ''}"
        )
    return tuple(runs), tuple(skipped)


def _runs_below(folder: Path, *, apart: Path) -> tuple[list[FinishedRun], list[SkippedFolder]]:
    """Reads every run below a folder; what is unfinished or cannot be read is named with its reason."""
    runs: list[FinishedRun] = []
    skipped: list[SkippedFolder] = []
    for place, folders, files in os.walk(folder):
        here = Path(place)
        folders.sort()
        if here.resolve() == apart.resolve() or is_earlier_part(here):
            folders.clear()
        elif is_finished(here):
            folders.clear()
            try:
                runs.append(read_run(here))
            except ArtifactError as error:
                skipped.append(SkippedFolder(folder=str(here), reason=str(error)))
        elif any(mark in files or mark in folders for mark in _MARKS_OF_A_RUN):
            folders.clear()
            skipped.append(SkippedFolder(folder=str(here), reason=_unfinished(here)))
        folders[:] = [name for name in folders if not (here / name).is_symlink()]
    return runs, skipped


def _unfinished(folder: Path) -> str:
    """Says why a run folder has no results."""
    if not (folder / CONFIG).is_file():
        return "not finished: stopped before its settings were written"
    try:
        task = read_settings(folder / CONFIG)["task"]
    except ArtifactError as error:
        return f"not finished, and {error}"
    name = task["name"] if isinstance(task, Mapping) else task
    return f"not finished: no {RESULTS}" if name == "run" else f"task={name} leaves no results to compare"
