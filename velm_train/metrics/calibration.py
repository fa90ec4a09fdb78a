"""Flagged images with option likelihoods go in; calibration error, risk-coverage and unparsed share come out.

The confidence of an answer is the softmax probability of the likeliest option. An answer is right if it is the true
type, or "no defect" on a false alarm. Rows are grouped by equal confidence first, so that the order among ties, which
means nothing, changes nothing.
"""

import numpy as np
from jaxtyping import Bool, Float

from velm_train.core.scores import CalibrationScores, RiskPoint, Score
from velm_train.metrics.intervals import Values, Weights, bootstrap_score, proportion
from velm_train.metrics.table import NONE_OF_THESE_INDEX, UNPARSED_INDEX, PredictionTable

MIN_IMAGES = 20
"""Fewer answers than this say nothing about calibration."""

MAX_BINS = 10
IMAGES_PER_BIN = 10
MAX_CURVE_POINTS = 200

PerLevel = Float[np.ndarray, "R U"]
"""A figure for each distinct confidence in each resample."""


def calibration_scores(table: PredictionTable, weights: Weights) -> CalibrationScores:
    """Returns calibration figures over the flagged images.

    Args:
        table: the images.
        weights: bootstrap resamples of the same images.
    """
    asked = table.flagged & table.has_confidence
    num_asked = int(asked.sum())
    answers = table.pred_type[table.flagged]
    unparsed = proportion(answers == UNPARSED_INDEX, if_empty="no image was flagged")
    none_of_these = proportion(answers == NONE_OF_THESE_INDEX, if_empty="no image was flagged")
    if num_asked < MIN_IMAGES:
        missing = Score.undefined(
            f"needs {MIN_IMAGES} flagged images with option likelihoods, has {num_asked}", n=num_asked
        )
        return CalibrationScores(
            expected_calibration_error=missing,
            aurc=missing,
            unparsed_fraction=unparsed,
            none_of_these_fraction=none_of_these,
            risk_coverage=(),
        )
    num_bins = min(MAX_BINS, num_asked // IMAGES_PER_BIN)
    num_silent = int((table.flagged & ~table.has_confidence).sum())
    note = f"without {num_silent} flagged images that have no option likelihoods" if num_silent else ""
    return CalibrationScores(
        expected_calibration_error=bootstrap_score(
            lambda w: expected_calibration_error_values(table, w, among=asked, num_bins=num_bins),
            weights,
            n=num_asked,
            note="; ".join(filter(None, [f"{num_bins} bins of equal mass", note])),
        ),
        aurc=bootstrap_score(lambda w: aurc_values(table, w, among=asked), weights, n=num_asked, note=note),
        unparsed_fraction=unparsed,
        none_of_these_fraction=none_of_these,
        risk_coverage=risk_coverage_curve(table, among=asked),
    )


def expected_calibration_error_values(
    table: PredictionTable, weights: Weights, *, among: Bool[np.ndarray, " n"], num_bins: int
) -> Values:
    """Returns the mean distance of confidence and accuracy over bins of equal mass (Nguyen and O'Connor 2015).

    The figure is biased upwards on few images: each bin's accuracy is itself uncertain.
    """
    confidence, drawn, right = _levels(table, weights, among)
    total = drawn.sum(axis=1, keepdims=True)
    middle = np.cumsum(drawn, axis=1) - drawn / 2
    bins = np.minimum((num_bins * middle / total).astype(np.int64), num_bins - 1)  # (R, U)
    gap = drawn * confidence - right
    per_bin = np.stack([np.where(bins == b, gap, 0).sum(axis=1) for b in range(num_bins)], axis=1)
    return np.asarray(np.abs(per_bin).sum(axis=1) / total[:, 0])


def aurc_values(table: PredictionTable, weights: Weights, *, among: Bool[np.ndarray, " n"]) -> Values:
    """Returns the area under the risk-coverage curve (Geifman and El-Yaniv 2017), 0 is best.

    That is the mean, over all numbers of answers kept, of the error fraction among the most confident ones. Within a
    group of equal confidence the errors are spread evenly, which is the expectation over random order:
    with E errors in N answers above a group of m answers and rate r,
    sum_{j=N+1}^{N+m} (E + (j - N) r) / j = m r + (E - N r) (H(N+m) - H(N)), H the harmonic numbers.
    """
    _, drawn, right = _levels(table, weights, among)
    drawn, wrong = drawn[:, ::-1], (drawn - right)[:, ::-1]  # most confident first
    kept = np.cumsum(drawn, axis=1)
    before, wrong_before = kept - drawn, np.cumsum(wrong, axis=1) - wrong
    rate = wrong / np.where(drawn > 0, drawn, 1)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, int(kept.max()) + 1))])
    spread = harmonic[kept.astype(np.int64)] - harmonic[before.astype(np.int64)]
    area = (drawn * rate + (wrong_before - before * rate) * spread).sum(axis=1)
    return np.asarray(area / kept[:, -1])


def risk_coverage_curve(table: PredictionTable, *, among: Bool[np.ndarray, " n"]) -> tuple[RiskPoint, ...]:
    """Returns one point for each distinct confidence, the most confident first, thinned evenly to 200 points."""
    confidence, drawn, right = _levels(table, np.ones((1, len(table))), among)
    kept = np.cumsum(drawn[0, ::-1])
    risk = np.cumsum((drawn - right)[0, ::-1]) / kept
    points = [
        RiskPoint(coverage=float(c), risk=float(r), confidence=float(level))
        for c, r, level in zip(kept / kept[-1], risk, confidence[::-1], strict=True)
    ]
    if len(points) <= MAX_CURVE_POINTS:
        return tuple(points)
    chosen = np.unique(np.linspace(0, len(points) - 1, MAX_CURVE_POINTS).round().astype(np.int64))
    return tuple(points[i] for i in chosen)


def _levels(
    table: PredictionTable, weights: Weights, among: Bool[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " U"], PerLevel, PerLevel]:
    """Returns the distinct confidences in rising order, and how many answers and right answers each has."""
    members = np.flatnonzero(among)
    members = members[np.argsort(table.confidence[members], kind="stable")]
    confidence = table.confidence[members]
    starts = np.flatnonzero(np.concatenate([[True], confidence[1:] != confidence[:-1]]))
    drawn = np.add.reduceat(weights[:, members], starts, axis=1)
    right = np.add.reduceat(weights[:, members] * table.correct[members], starts, axis=1)
    return confidence[starts], drawn, right
