"""The whole system: final answers go in; end-to-end recall, normal recall and the published accuracy come out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from velm_train.core.records import NORMAL_DEFECT_TYPE, GatePolicy, Prediction
from velm_train.core.scores import Outcomes, Score, SystemScores, TypeRecall
from velm_train.metrics.classification import balanced_recall_values
from velm_train.metrics.intervals import Values, Weights, bootstrap_score, proportion
from velm_train.metrics.table import NONE_OF_THESE_INDEX, NORMAL_INDEX, UNPARSED_INDEX, PredictionTable

PERFECT_GATE_ROW = "perfect gate + majority type"
MAJORITY_ROW = "majority type"


def system_scores(table: PredictionTable, weights: Weights) -> SystemScores:
    """Returns end-to-end balanced recall over defect types, normal recall, and the published accuracy.

    Args:
        table: the images.
        weights: bootstrap resamples of the same images.
    """
    return SystemScores(
        end_to_end_balanced_recall=_end_to_end_balanced_recall(table, weights),
        normal_recall=proportion(table.correct[~table.defect], if_empty="no normal images"),
        velm_accuracy=bootstrap_score(
            lambda w: velm_accuracy_values(table, w), weights, n=len(table), hits=table.correct
        ),
    )


def end_to_end_values(table: PredictionTable, weights: Weights) -> Values:
    """Returns balanced recall over defect types; gate misses, "no defect" and unparsed answers are errors."""
    return balanced_recall_values(table, weights, among=table.defect)


def _end_to_end_balanced_recall(table: PredictionTable, weights: Weights) -> Score:
    if not table.defect.any():
        return Score.undefined("no defective images")
    present = np.unique(table.category)
    num_listed = int(np.isin(table.category_of_type(), present).sum())
    num_empty = num_listed - len(np.unique(table.gt_type[table.defect]))
    note = f"without {num_empty} of {num_listed} listed types that have no test image" if num_empty else ""
    return bootstrap_score(
        lambda w: end_to_end_values(table, w),
        weights,
        n=int(table.defect.sum()),
        note=note,
        hits=table.correct[table.defect],
    )


def velm_accuracy_values(table: PredictionTable, weights: Weights) -> Values:
    """Returns the accuracy over all images of a category, normal ones included, averaged over categories.

    This is what the published tables of VELM (arXiv 2505.02626) hold, not its Equation 1.
    """
    correct = table.correct.astype(np.float64)
    members = [table.category == c for c in np.unique(table.category)]
    accuracies = [(weights[:, m] @ correct[m]) / weights[:, m].sum(axis=1) for m in members]
    return np.asarray(np.mean(accuracies, axis=0))


def outcomes(table: PredictionTable) -> Outcomes:
    """Returns where defective and normal parts end up, as k of n images."""
    answers = table.pred_type[table.defect]
    right = table.correct[table.defect]
    unnamed = (answers == NONE_OF_THESE_INDEX) | (answers == UNPARSED_INDEX)
    as_good = answers == NORMAL_INDEX
    empty = "no defective images"
    return Outcomes(
        defects_named_right=proportion(right, if_empty=empty),
        defects_named_wrong=proportion(~right & ~unnamed & ~as_good, if_empty=empty),
        defects_unnamed=proportion(unnamed, if_empty=empty),
        defects_passed_as_good=proportion(as_good, if_empty=empty),
        normals_stopped=proportion(~table.correct[~table.defect], if_empty="no normal images"),
    )


def type_recalls(table: PredictionTable) -> tuple[TypeRecall, ...]:
    """Returns each listed type's end-to-end recall as k of n, types of the occurring categories only."""
    present = set(np.unique(table.category).tolist())
    recalls = []
    for position, (key, category) in enumerate(zip(table.types, table.category_of_type().tolist(), strict=True)):
        if category not in present:
            continue
        members = table.gt_type == position
        recalls.append(
            TypeRecall(
                category=key.category,
                defect_type=key.defect_type,
                recall=proportion(table.correct[members], if_empty="no test image of this type"),
                num_missed_by_gate=int((members & ~table.flagged).sum()),
            )
        )
    return tuple(recalls)


def perfect_gate_majority_predictions(
    predictions: Sequence[Prediction], *, label_sets: Mapping[str, Sequence[str]]
) -> list[Prediction]:
    """Returns rows of a system that never errs at the gate and always names the category's commonest type.

    The commonest type is taken from the test labels themselves, as in the comparison published with VELM's numbers:
    no real system can know it, so the row bounds what looking at the defect is worth.
    """
    majority = _majority_types(predictions, label_sets)
    return [
        _trivial_row(row, flagged=row.gt_defect_type != NORMAL_DEFECT_TYPE, majority=majority, gate_policy="oracle")
        for row in predictions
    ]


def majority_predictions(
    predictions: Sequence[Prediction], *, label_sets: Mapping[str, Sequence[str]]
) -> list[Prediction]:
    """Returns rows of a system that flags every image and always names the category's commonest type.

    The commonest type is taken from the test labels themselves, as in the comparison published with VELM's numbers.
    """
    majority = _majority_types(predictions, label_sets)
    return [_trivial_row(row, flagged=True, majority=majority, gate_policy="off") for row in predictions]


def _majority_types(predictions: Sequence[Prediction], label_sets: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Returns each category's commonest defect type; ties go to the first in the label list."""
    counts = Counter((row.category, row.gt_defect_type) for row in predictions)
    return {
        category: max(labels, key=lambda label: counts[(category, label)])
        for category, labels in label_sets.items()
        if labels
    }


def _trivial_row(row: Prediction, *, flagged: bool, majority: Mapping[str, str], gate_policy: GatePolicy) -> Prediction:
    answer = majority[row.category] if flagged and row.category in majority else NORMAL_DEFECT_TYPE
    return replace(
        row,
        anomaly_score=float(flagged),
        p_value=1.0,  # no test was made
        pred_label=flagged,
        gate_policy=gate_policy,
        option_log_likelihoods={},
        pred_defect_type=answer,
        response="",
        region_boxes_xyxy=(),
        seconds={},
        hashes={},
    )
