"""Named types go in; recall and F1 over the fixed label lists come out.

Averages go over the types of a category, then over categories, so that a category with many types weighs no more
than one with few. The label list is fixed beforehand: an answer outside it, "good" or unparsed, is an error of the
true type and never a class of its own.
"""

import warnings

import numpy as np
from jaxtyping import Bool, Float

from velm_train.core.scores import ClassificationScores
from velm_train.metrics.intervals import Values, Weights, bootstrap_score
from velm_train.metrics.table import PredictionTable

PerType = Float[np.ndarray, "R S"]
"""A figure for each type in each resample; NaN where the type has no images."""


def classification_scores(table: PredictionTable, weights: Weights) -> ClassificationScores:
    """Returns balanced recall and macro-F1 on the defects that the gate flagged.

    Args:
        table: the images.
        weights: bootstrap resamples of the same images.
    """
    caught = table.defect & table.flagged
    types_with_images = set(table.gt_type[table.defect].tolist())
    num_missed = len(types_with_images) - len(set(table.gt_type[caught].tolist()))
    note = (
        f"without {num_missed} of {len(types_with_images)} pairs of category and type: the gate flagged none of their "
        "images"
        if num_missed
        else ""
    )
    if not caught.any():
        note = "the gate flagged no defective image"
    num_caught = int(caught.sum())
    return ClassificationScores(
        given_detected_balanced_recall=bootstrap_score(
            lambda w: balanced_recall_values(table, w, among=caught),
            weights,
            n=num_caught,
            note=note,
            hits=table.correct[caught],
        ),
        given_detected_macro_f1=bootstrap_score(
            lambda w: macro_f1_values(table, w, among=caught),
            weights,
            n=num_caught,
            note=note,
            hits=table.correct[caught],
        ),
    )


def recall_by_type(table: PredictionTable, weights: Weights, *, among: Bool[np.ndarray, " n"]) -> PerType:
    """Returns each type's recall over the images where `among` is True."""
    gt_count = _count_by_type(table.gt_type, weights, among, num_types=len(table.types))
    hit_count = _count_by_type(table.gt_type, weights, among & table.correct, num_types=len(table.types))
    return _ratio(hit_count, gt_count)


def balanced_recall_values(table: PredictionTable, weights: Weights, *, among: Bool[np.ndarray, " n"]) -> Values:
    """Returns the mean over categories of the mean recall over their types, types without images left out."""
    return mean_over_types_then_categories(table, recall_by_type(table, weights, among=among))


def macro_f1_values(table: PredictionTable, weights: Weights, *, among: Bool[np.ndarray, " n"]) -> Values:
    """Returns the mean over categories of the mean F1 over their types, types without images left out."""
    gt_count = _count_by_type(table.gt_type, weights, among, num_types=len(table.types))
    pred_count = _count_by_type(table.pred_type, weights, among, num_types=len(table.types))
    hit_count = _count_by_type(table.gt_type, weights, among & table.correct, num_types=len(table.types))
    f1 = np.where(gt_count > 0, _ratio(2 * hit_count, gt_count + pred_count), np.nan)
    return mean_over_types_then_categories(table, f1)


def mean_over_types_then_categories(table: PredictionTable, per_type: PerType) -> Values:
    """Averages over the types of each category, then over categories; NaN entries are left out of both."""
    category_of_type = table.category_of_type()
    per_category = [per_type[:, category_of_type == c] for c in np.unique(category_of_type)]
    if not per_category:
        return np.full(len(per_type), np.nan)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Mean of empty slice", category=RuntimeWarning)
        means = np.stack([np.nanmean(values, axis=1) for values in per_category], axis=1)  # (R, categories)
        return np.asarray(np.nanmean(means, axis=1))


def _count_by_type(
    type_index: np.ndarray, weights: Weights, among: Bool[np.ndarray, " n"], *, num_types: int
) -> PerType:
    indicator = (type_index[:, None] == np.arange(num_types)) & among[:, None]  # (n, S)
    return np.asarray(weights @ indicator.astype(np.float64))


def _ratio(numerator: PerType, denominator: PerType) -> PerType:
    safe = np.where(denominator > 0, denominator, 1)
    return np.where(denominator > 0, numerator / safe, np.nan)
