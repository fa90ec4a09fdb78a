"""The gate alone: anomaly scores and decisions go in, ranking and both error rates come out."""

import numpy as np

from velm_train.core.scores import DetectionScores, Score
from velm_train.metrics.intervals import Values, Weights, bootstrap_score, proportion
from velm_train.metrics.table import PredictionTable


def detection_scores(table: PredictionTable, weights: Weights) -> DetectionScores:
    """Returns AUROC, and miss and false-alarm rate at the frozen threshold.

    Args:
        table: the images.
        weights: bootstrap resamples of the same images.
    """
    return DetectionScores(
        image_auroc=image_auroc(table, weights),
        miss_rate=proportion(~table.flagged[table.defect], if_empty="no defective images"),
        false_alarm_rate=proportion(table.flagged[~table.defect], if_empty="no normal images"),
    )


def image_auroc(table: PredictionTable, weights: Weights) -> Score:
    """Returns the mean over categories of the AUROC of normal against defective.

    Scores of two categories come from two detectors and are never ranked against each other. Categories that hold
    only one of both are left out, and the note says so. Scores that are the decisions themselves, 0 and 1, rank
    nothing: where a system has no others there is no AUROC.
    """
    if bool((table.anomaly_score == table.flagged).all()):
        return Score.undefined("decisions only, no scores to rank", n=len(table))
    present = np.unique(table.category)
    usable = [c for c in present if len(np.unique(table.defect[table.category == c])) == 2]
    if not usable:
        return Score.undefined("needs normal and defective images of one category", n=len(table))
    dropped = [table.categories[c] for c in present if c not in usable]
    note = f"without {', '.join(dropped)}: normal or defective images only" if dropped else ""
    return bootstrap_score(
        lambda w: np.mean([_auroc_values(table, w, category=int(c)) for c in usable], axis=0),
        weights,
        n=int(np.isin(table.category, usable).sum()),
        note=note,
    )


def _auroc_values(table: PredictionTable, weights: Weights, *, category: int) -> Values:
    """Returns one category's AUROC in each resample: the chance that a defect outranks a normal, ties half."""
    members = np.flatnonzero(table.category == category)
    members = members[np.argsort(table.anomaly_score[members], kind="stable")]
    scores = table.anomaly_score[members]
    starts = np.flatnonzero(np.concatenate([[True], scores[1:] != scores[:-1]]))
    is_defect = table.defect[members].astype(np.float64)
    drawn = weights[:, members]
    defects = np.add.reduceat(drawn * is_defect, starts, axis=1)  # (R, distinct scores)
    normals = np.add.reduceat(drawn * (1 - is_defect), starts, axis=1)
    normals_below = np.cumsum(normals, axis=1) - normals
    wins = (defects * (normals_below + normals / 2)).sum(axis=1)
    return np.asarray(wins / (defects.sum(axis=1) * normals.sum(axis=1)))
