"""Predictions of several systems go in; one row of scores each, on the same images, comes out."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from velm_train.core.errors import DataError
from velm_train.core.records import Prediction
from velm_train.core.scores import (
    CollapseCheck,
    Confusion,
    GroupKind,
    GroupScores,
    PairedDifference,
    RowScores,
    Scoreboard,
    ScoreboardRow,
    StageSeconds,
)
from velm_train.metrics.calibration import calibration_scores
from velm_train.metrics.classification import classification_scores
from velm_train.metrics.collapse import collapse_check, combined_check
from velm_train.metrics.detection import detection_scores
from velm_train.metrics.intervals import Weights, paired_difference, stratified_weights
from velm_train.metrics.system import end_to_end_values, outcomes, system_scores, type_recalls
from velm_train.metrics.table import (
    NO_UNKNOWN_TYPES,
    NONE_OF_THESE_INDEX,
    NORMAL_INDEX,
    UNPARSED_INDEX,
    PredictionTable,
    make_table,
)

logger = logging.getLogger(__name__)

ALL_STAGES = "all stages"


@dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """One row to be scored.

    Attributes:
        name: what the row is called, unique.
        predictions: one row an image.
        trivial: True for a system that never looks at an image.
        subset_note: why it has fewer images than the first system; "" if it has the same.
    """

    name: str
    predictions: Sequence[Prediction]
    trivial: bool = False
    subset_note: str = ""


def score_rows(
    predictions: Sequence[Prediction],
    *,
    label_sets: Mapping[str, Sequence[str]],
    num_bootstrap: int,
    seed: int,
    unknown_types: Mapping[str, Sequence[str]] = NO_UNKNOWN_TYPES,
) -> RowScores:
    """Scores one system: overall, by group and by category.

    Args:
        predictions: one labelled row an image.
        label_sets: category -> fixed list of its defect types, without "good".
        num_bootstrap: resamples for each interval, at least 1.
        seed: root seed; the same images and seed give the same resamples for every system.
        unknown_types: category -> types that nobody was taught; "none of these" is right for them.

    Raises:
        DataError: if the predictions do not fit the label lists.
    """
    table = make_table(predictions, label_sets=label_sets, unknown_types=unknown_types)
    weights = stratified_weights(table.strata, num_bootstrap=num_bootstrap, seed=seed)
    groups = np.array(table.group)
    return RowScores(
        overall=_group_scores(table, weights, name="overall", kind="overall"),
        groups=tuple(
            _group_scores(table.select(groups == name), weights[:, groups == name], name=str(name), kind="group")
            for name in np.unique(groups)
        ),
        categories=tuple(
            _group_scores(
                table.select(table.category == c), weights[:, table.category == c], name=name, kind="category"
            )
            for c, name in enumerate(table.categories)
        ),
        confusions=tuple(_confusion(table, category=c) for c in range(len(table.categories))),
        seconds=seconds_by_stage(predictions),
        gate_policies=tuple(sorted({row.gate_policy for row in predictions})),
    )


def make_scoreboard(
    systems: Sequence[System],
    *,
    label_sets: Mapping[str, Sequence[str]],
    num_bootstrap: int,
    seed: int,
    unknown_types: Mapping[str, Sequence[str]] = NO_UNKNOWN_TYPES,
) -> Scoreboard:
    """Scores every system and compares it with the first one on the images both have.

    Args:
        systems: the run itself first; it says which images there are.
        label_sets: category -> fixed list of its defect types, without "good".
        num_bootstrap: resamples for each interval.
        seed: root seed.
        unknown_types: category -> types that nobody was taught; "none of these" is right for them.

    Raises:
        DataError: if two systems share a name, or a system has other images than the first without a subset_note.
    """
    names = [system.name for system in systems]
    if not systems or len(set(names)) != len(names):
        raise DataError(f"scoreboard rows {names}; at least one is needed and no name may occur twice")
    rows = []
    for system in systems:
        _check_images(systems[0], system)
        scores = score_rows(
            system.predictions,
            label_sets=label_sets,
            num_bootstrap=num_bootstrap,
            seed=seed,
            unknown_types=unknown_types,
        )
        versus_first = None
        if system is not systems[0]:
            versus_first = compare_predictions(
                systems[0].predictions,
                system.predictions,
                label_sets=label_sets,
                num_bootstrap=num_bootstrap,
                seed=seed,
                unknown_types=unknown_types,
            )
        rows.append(
            ScoreboardRow(
                name=system.name,
                scores=scores,
                trivial=system.trivial,
                subset_note=system.subset_note,
                versus_first=versus_first,
            )
        )
        logger.info("scored %s on %s images", system.name, len(system.predictions))
    return Scoreboard(
        rows=tuple(rows),
        label_sets={category: tuple(labels) for category, labels in label_sets.items()},
        num_images=len(systems[0].predictions),
        num_bootstrap=num_bootstrap,
        seed=seed,
    )


def compare_predictions(
    first: Sequence[Prediction],
    other: Sequence[Prediction],
    *,
    label_sets: Mapping[str, Sequence[str]],
    num_bootstrap: int,
    seed: int,
    unknown_types: Mapping[str, Sequence[str]] = NO_UNKNOWN_TYPES,
) -> PairedDifference:
    """Compares end-to-end balanced recall and right answers on the images that `other` holds.

    Raises:
        DataError: if `other` holds an image that `first` lacks, or the true types differ.
    """
    wanted = {row.image_id for row in other}
    shared = [row for row in first if row.image_id in wanted]
    return paired_difference(
        make_table(shared, label_sets=label_sets, unknown_types=unknown_types),
        make_table(other, label_sets=label_sets, unknown_types=unknown_types),
        metric=end_to_end_values,
        num_bootstrap=num_bootstrap,
        seed=seed,
    )


def seconds_by_stage(predictions: Sequence[Prediction]) -> tuple[StageSeconds, ...]:
    """Returns seconds per image by stage in the order stages first occur, then their sum per image."""
    stages = list(dict.fromkeys(stage for row in predictions for stage in row.seconds))
    if not stages:
        return ()
    columns = {stage: [row.seconds[stage] for row in predictions if stage in row.seconds] for stage in stages}
    columns[ALL_STAGES] = [sum(row.seconds.values()) for row in predictions]
    return tuple(
        StageSeconds(
            stage=stage, mean=float(np.mean(values)), median=float(np.median(values)), total=sum(values), n=len(values)
        )
        for stage, values in columns.items()
    )


def _check_images(first: System, system: System) -> None:
    expected = {row.image_id for row in first.predictions}
    found = {row.image_id for row in system.predictions}
    if not found <= expected:
        raise DataError(
            f"row {system.name!r} has {len(found - expected)} images that {first.name!r} lacks, for instance "
            f"{min(found - expected)!r}; score both on the same images"
        )
    if found != expected and not system.subset_note:
        raise DataError(
            f"row {system.name!r} lacks {len(expected - found)} of {len(expected)} images, for instance "
            f"{min(expected - found)!r}; score it on all of them or say why in subset_note"
        )


def _group_scores(table: PredictionTable, weights: Weights, *, name: str, kind: GroupKind) -> GroupScores:
    return GroupScores(
        name=name,
        kind=kind,
        num_images=len(table),
        num_defects=int(table.defect.sum()),
        num_normals=int((~table.defect).sum()),
        num_flagged=int(table.flagged.sum()),
        detection=detection_scores(table, weights),
        classification=classification_scores(table, weights),
        system=system_scores(table, weights),
        outcomes=outcomes(table),
        calibration=calibration_scores(table, weights),
        collapse=_collapse(table),
        type_recalls=type_recalls(table),
    )


def _collapse(table: PredictionTable) -> CollapseCheck:
    checks = {table.categories[c]: collapse_check(table.select(table.category == c)) for c in np.unique(table.category)}
    return next(iter(checks.values())) if len(checks) == 1 else combined_check(checks)


def _confusion(table: PredictionTable, *, category: int) -> Confusion:
    """Counts answers by true type; the first row and the third last column are normal images and answers."""
    members = np.flatnonzero(table.category == category)
    listed = np.flatnonzero(table.category_of_type() == category).tolist()
    rows = [*listed, NORMAL_INDEX]
    columns = [*listed, NORMAL_INDEX, NONE_OF_THESE_INDEX, UNPARSED_INDEX]
    labels = [table.types[i].defect_type for i in listed]
    counts = tuple(
        tuple(int(((table.gt_type[members] == r) & (table.pred_type[members] == c)).sum()) for c in columns)
        for r in rows
    )
    return Confusion(
        category=table.categories[category],
        group=table.group[members[0]],
        gt_labels=(*labels, "good"),
        pred_labels=(*labels, "good", "none of these", "unparsed"),
        counts=counts,
    )
