"""The folder of one finished run in, everything in it that a comparison needs out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from velm_train.core.errors import ArtifactError, DataError
from velm_train.core.hashing import sha256_json
from velm_train.core.plain import read_record
from velm_train.core.records import Prediction
from velm_train.core.scores import RowScores
from velm_train.metrics.scoreboard import score_rows
from velm_train.reporting.compare_config import flatten
from velm_train.reporting.compare_wandb import FILE_PATTERN, WandbRun, is_wandb_folder, joined, read_wandb_folder
from velm_train.reporting.manifest import Manifest
from velm_train.reporting.predictions import read_predictions
from velm_train.reporting.results import SCHEMA_VERSION, read_results

RESULTS, PREDICTIONS, CONFIG, SPLIT = "results.json", "predictions.jsonl", "config.yaml", "split.json"
SPLIT_VERSIONS = (1, 2)
"""Versions of split.json whose entries hold image_id and sha256 and whose types are named alike."""

KNOWN_RESULTS = (1, 2)
"""Versions of results.json whose label lists and manifest are those of today; scores of older ones are made again."""

_NO_SETTINGS = frozenset({"git", "hashes", "packages"})
"""What a run adds to its settings for W&B."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunScores:
    """A run's figures and what they rest on.

    Attributes:
        stored_recall: end-to-end balanced recall over all images as results.json has it.
        made_again: True if results.json is of an older version and the scores were made from the rows.
    """

    scores: RowScores
    label_sets: Mapping[str, tuple[str, ...]]
    manifest: Manifest
    stored_recall: float | None
    made_again: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitContents:
    """Which pictures a split names.

    Attributes:
        contents: image_id -> hash of the file.
        unknown_types: category -> types that the run was never taught.
    """

    contents: Mapping[str, str]
    unknown_types: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishedRun:
    """What a run left.

    Attributes:
        settings: dotted key -> value as JSON text.
        results: None for a folder of W&B, which has no rows to test.
        split: None if there is none that can be read.
        split_problem: why the split cannot be read, or "".
        wandb: every W&B folder that belongs to the run, oldest first.
    """

    folder: Path
    settings: Mapping[str, str]
    results: RunScores | None
    predictions: tuple[Prediction, ...]
    split: SplitContents | None
    split_problem: str
    wandb: tuple[WandbRun, ...]


def is_finished(folder: Path) -> bool:
    """True if the folder is that of a finished run, or of a W&B run."""
    return (folder / RESULTS).is_file() or is_wandb_folder(folder)


def read_run(folder: Path) -> FinishedRun:
    """Reads one finished run.

    Raises:
        ArtifactError: if a file is absent, damaged, of a version that cannot be read, or of another run.
    """
    return _read_run_folder(folder) if (folder / RESULTS).is_file() else _read_wandb_alone(folder)


def _read_run_folder(folder: Path) -> FinishedRun:
    predictions = tuple(read_predictions(folder / PREDICTIONS))
    split, problem = _read_split(folder / SPLIT)
    unplaced = [row.image_id for row in predictions if split is not None and row.image_id not in split.contents]
    if unplaced:
        raise ArtifactError(f"{folder}: {unplaced[0]} of {PREDICTIONS} is not in {SPLIT}; they are of two runs")
    places = sorted(path for path in folder.glob("wandb/*") if not path.is_symlink() and is_wandb_folder(path))
    return FinishedRun(
        folder=folder,
        settings=flatten(read_settings(folder / CONFIG)),
        results=_read_scores(folder / RESULTS, predictions, split),
        predictions=predictions,
        split=split,
        split_problem=problem,
        wandb=tuple(read_wandb_folder(path) for path in places),
    )


def _read_scores(path: Path, predictions: tuple[Prediction, ...], split: SplitContents | None) -> RunScores:
    try:
        body = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}; score the run again") from error
    version = body["schema_version"] if isinstance(body, dict) and "schema_version" in body else None
    if version == SCHEMA_VERSION or version not in KNOWN_RESULTS:
        results = read_results(path)
        row = results.scoreboard.rows[0].scores
        return RunScores(
            scores=row,
            label_sets=results.scoreboard.label_sets,
            manifest=results.manifest,
            stored_recall=row.overall.system.end_to_end_balanced_recall.value,
            made_again=False,
        )
    try:
        board = body["scoreboard"]
        label_sets = {category: tuple(labels) for category, labels in board["label_sets"].items()}
        scores = score_rows(
            predictions,
            label_sets=label_sets,
            num_bootstrap=board["num_bootstrap"],
            seed=board["seed"],
            unknown_types={} if split is None else split.unknown_types,
        )
        return RunScores(
            scores=scores,
            label_sets=label_sets,
            manifest=read_record(Manifest, body["manifest"]),
            stored_recall=board["rows"][0]["scores"]["overall"]["system"]["end_to_end_balanced_recall"]["value"],
            made_again=True,
        )
    except (KeyError, IndexError, TypeError, AttributeError, DataError) as error:
        raise ArtifactError(f"{path} is damaged: it is not as version {version} has it; leave the run out") from error


def is_earlier_part(folder: Path) -> bool:
    """True if a W&B folder holds a part of a run that another process went on with, in a folder beside it."""
    return is_wandb_folder(folder) and _parts(folder)[-1] != folder


def _parts(folder: Path) -> list[Path]:
    """Returns the W&B folders of one run, oldest first: their names begin with the time, their files hold the id."""
    (name,) = {path.name for path in folder.glob(FILE_PATTERN)} or {""}
    beside = (path for path in folder.parent.iterdir() if not path.is_symlink() and (path / name).is_file())
    return sorted(beside, key=lambda path: path.name.removeprefix("offline-")) or [folder]


def _read_wandb_alone(folder: Path) -> FinishedRun:
    run = joined([read_wandb_folder(part) for part in _parts(folder)])
    if not run.finished:
        raise ArtifactError(f"{folder}: the W&B run was never finished; compare it when it is")
    return FinishedRun(
        folder=folder,
        settings=flatten({key: value for key, value in run.settings.items() if key not in _NO_SETTINGS}),
        results=None,
        predictions=(),
        split=None,
        split_problem="a W&B folder holds no split",
        wandb=(run,),
    )


def read_settings(path: Path) -> dict[str, Any]:
    """Reads a config.yaml as plain containers.

    Raises:
        ArtifactError: if it is absent or no table of settings.
    """
    try:
        loaded = OmegaConf.load(path)
        settings = OmegaConf.to_container(loaded, resolve=True)
    except (OSError, YAMLError, OmegaConfBaseException) as error:
        reason = str(error).strip().splitlines()[0]
        raise ArtifactError(f"{path} cannot be read: {reason}; a run folder has the settings of the run") from error
    if not isinstance(settings, dict) or "task" not in settings:
        raise ArtifactError(f"{path} holds no settings of a run; restore it or leave the folder out")
    return {str(key): value for key, value in settings.items()}


def _read_split(path: Path) -> tuple[SplitContents | None, str]:
    """Returns the pictures that a split names, or None and the reason."""
    try:
        body = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        return None, f"{SPLIT} cannot be read ({error})"
    version = body["schema_version"] if isinstance(body, dict) and "schema_version" in body else None
    if version not in SPLIT_VERSIONS:
        return None, f"{SPLIT} has schema version {version}, this program reads {SPLIT_VERSIONS}"
    if body.pop("sha256", None) != sha256_json(body):
        return None, f"{SPLIT} was changed: its hash does not fit its content"
    unknown = body["unknown_types"] if version > 1 else {}
    contents = {entry["image_id"]: entry["sha256"] for entry in body["entries"]}
    return SplitContents(
        contents=contents, unknown_types={category: tuple(types) for category, types in unknown.items()}
    ), ""
