"""What `task=score` is given: a file of anybody's predictions in, checked rows and their label lists out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from velm_train.config import Config
from velm_train.config.scoring import ScoreConfig
from velm_train.core.errors import ArtifactError, ConfigError, DataError
from velm_train.core.taxonomy import Taxonomy, read_taxonomy
from velm_train.datasets.manifests import SplitManifest
from velm_train.datasets.split_files import read_classes
from velm_train.datasets.taxonomies import taxonomy_path
from velm_train.reporting.imports.csv_predictions import read_csv_predictions
from velm_train.reporting.imports.fitting import Fitted, Labels, MissingImages, fit_rows, labels_of
from velm_train.reporting.imports.own_predictions import read_own_predictions
from velm_train.reporting.imports.raw import RawPredictions
from velm_train.reporting.imports.truth import Truth, read_truth, truth_by_number, types_by_category
from velm_train.reporting.imports.velm_release import (
    LabelKeys,
    MisspeltKey,
    find_misspelt_keys,
    read_label_keys,
    read_velm_predictions,
    with_repaired_keys,
)
from velm_train.reporting.results import read_results

REPAIRED_ROW = "label keys repaired"

_FORMAT_BY_SUFFIX = {".jsonl": "velm_train", ".csv": "csv", ".json": "velm"}


@dataclass(frozen=True, kw_only=True, slots=True)
class NamingInput:
    """Named types that are ready to be scored.

    Attributes:
        systems: name of a row -> its predictions, the file as it is first.
        label_sets: category -> the fixed list of its defect types.
        unknown_types: category -> types that nobody was taught.
        notes: sentences about the reading.
    """

    systems: Mapping[str, Fitted]
    label_sets: Mapping[str, tuple[str, ...]]
    unknown_types: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]


def file_format(config: Config, path: Path) -> str:
    """Returns the format of the file, by its ending where the settings leave it open.

    Raises:
        ConfigError: if the ending says nothing.
    """
    if config.score.format != "auto":
        return config.score.format
    if path.suffix.lower() not in _FORMAT_BY_SUFFIX:
        raise ConfigError(
            f"predictions={path} ends in {path.suffix!r}, which says nothing about its format; rename it to "
            f"{', '.join(_FORMAT_BY_SUFFIX)} or set score.format"
        )
    return _FORMAT_BY_SUFFIX[path.suffix.lower()]


def read_naming(config: Config, path: Path, *, read_as: str) -> NamingInput:
    """Reads predictions of defect types and holds them to the label lists.

    Args:
        config: the settings.
        path: the file.
        read_as: velm_train, csv or velm.

    Raises:
        VelmError: naming the row that cannot be used, or the setting that does not fit.
    """
    if read_as == "velm":
        return _read_velm(config.score, path)
    if config.score.label_keys is not None:
        raise ConfigError(
            f"score.label_keys={config.score.label_keys} is not possible; allowed: null for {read_as} files"
        )
    truth = None if config.score.truth is None else read_truth(_folder(config.score.truth))
    raw = read_own_predictions(path) if read_as == "velm_train" else read_csv_predictions(path)
    labels, notes = _labels(config.score, raw, truth)
    unknown: Mapping[str, tuple[str, ...]] = {}
    if read_as == "velm_train":
        unknown, split_notes = _unknown_types(path)
        notes += split_notes
    return NamingInput(
        systems={path.stem: _fit(config.score, raw, labels, truth)},
        label_sets=labels.sets,
        unknown_types=unknown,
        notes=notes,
    )


def _read_velm(score: ScoreConfig, path: Path) -> NamingInput:
    if score.label_keys is None:
        raise ConfigError(
            "score.label_keys=null is not possible; allowed: the JSON file with class keys and display names that was "
            "released beside the predictions"
        )
    truth = None if score.truth is None else truth_by_number(read_classes(score.truth))
    keys = read_label_keys(_folder(score.label_keys))
    raw = read_velm_predictions(path, label_keys=keys)
    labels, notes = _labels(score, raw, truth)
    systems = {path.stem: _fit(score, raw, labels, truth)}
    misspelt = find_misspelt_keys(keys, dict(labels.sets))
    if misspelt:
        repaired = _repaired(path, keys, misspelt)
        systems[REPAIRED_ROW] = _fit(score, repaired, labels, truth)
        pairs = ", ".join(f"{one.category}/{one.key} for {one.defect_type}" for one in misspelt)
        notes += (f"{len(misspelt)} label keys are misspelt, so that no answer can be right: {pairs}.",)
    return NamingInput(systems=systems, label_sets=labels.sets, unknown_types={}, notes=notes)


def _repaired(path: Path, keys: LabelKeys, misspelt: tuple[MisspeltKey, ...]) -> RawPredictions:
    return read_velm_predictions(path, label_keys=with_repaired_keys(keys, misspelt))


def _fit(score: ScoreConfig, raw: RawPredictions, labels: Labels, truth: Truth | None) -> Fitted:
    return fit_rows(raw, labels=labels, truth=truth, missing=cast("MissingImages", score.missing))


def _labels(score: ScoreConfig, raw: RawPredictions, truth: Truth | None) -> tuple[Labels, tuple[str, ...]]:
    """Returns the label lists, and a note if they are only what occurs in the file."""
    if score.taxonomy is not None:
        taxonomy = _taxonomy(score.taxonomy)
        return labels_of({name: sorted(body.defect_types) for name, body in taxonomy.categories.items()}, taxonomy), ()
    if truth is not None:
        return labels_of(types_by_category([(one.category, one.defect_type) for one in truth.values()])), ()
    beside = raw.path.with_name("results.json")
    if raw.rows[0].source is not None and beside.is_file():
        return labels_of(_label_sets_of_run(beside)), ()
    pairs = [(row.category, row.gt_defect_type) for row in raw.rows]
    labelled = [(category, kind) for category, kind in pairs if category and kind]
    if not labelled:
        raise DataError(
            f"{raw.path}: no row says what its image shows; add category and true type (columns category and "
            "defect_type of a CSV file), or give them in score.truth"
        )
    note = "Label lists are the true types that occur in the file; score.truth or score.taxonomy gives complete ones."
    return labels_of(types_by_category(labelled)), (note,)


def _label_sets_of_run(results: Path) -> Mapping[str, tuple[str, ...]]:
    try:
        return read_results(results).scoreboard.label_sets
    except ArtifactError as error:
        raise ArtifactError(
            f"the label lists of the run cannot be read: {error}; or name them in score.taxonomy"
        ) from error


def _taxonomy(name: str) -> Taxonomy:
    return read_taxonomy(_folder(name) if name.endswith(".json") else taxonomy_path(name))


def _unknown_types(path: Path) -> tuple[Mapping[str, tuple[str, ...]], tuple[str, ...]]:
    """Returns the types that nobody was taught, as the split beside a run's predictions has them."""
    split = path.with_name("split.json")
    if not split.is_file():
        return {}, ()
    try:
        return SplitManifest.load(split).unknown_types, ()
    except ArtifactError as error:
        return {}, (f"Types that nobody was taught are not known: {error}.",)


def _folder(text: str) -> Path:
    return Path(text).expanduser()
