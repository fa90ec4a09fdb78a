"""Flagged images with option likelihoods go in; calibration error, risk-coverage and unparsed share come out.

The confidence of an answer is the softmax probability of the likeliest option. An answer is right if it is the true
type, or "no defect" on a false alarm. Rows are grouped by equal confidence first, so that the order among ties, which
means nothing, changes nothing.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int

from velm_train.core.answer_scores import ReliabilityBin
from velm_train.core.scores import CalibrationScores, RiskPoint, Score
from velm_train.metrics.intervals import (
    CONFIDENCE_LEVEL,
    NO_SPREAD,
    Values,
    Weights,
    bootstrap_score,
    proportion,
    without_spread,
)
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
    num_silent = int((table.flagged & ~table.has_confidence).sum())
    note = f"without {num_silent} flagged images that have no option likelihoods" if num_silent else ""
    return CalibrationScores(
        expected_calibration_error=expected_calibration_error(table, weights, among=asked, note=note),
        aurc=bootstrap_score(lambda w: aurc_values(table, w, among=asked), weights, n=num_asked, note=note),
        unparsed_fraction=unparsed,
        none_of_these_fraction=none_of_these,
        risk_coverage=risk_coverage_curve(table, among=asked),
    )


def _num_bins(num_asked: int) -> int:
    return max(1, min(MAX_BINS, num_asked // IMAGES_PER_BIN))


def expected_calibration_error(
    table: PredictionTable, weights: Weights, *, among: Bool[np.ndarray, " n"], note: str = ""
) -> Score:
    """Returns the calibration error with an interval that holds the true one at the nominal rate or more often.

    The figure is biased upwards on few images: each bin's accuracy is itself uncertain. Its resamples are biased once
    more, so that their percentiles lie above the truth; for a perfectly calibrated model they never hold it. Instead:
    the figure differs from the truth by at most the sum D over bins of how far each bin's gap is off, so the lower end
    is the figure minus the 97.5 % quantile of D over resamples; the upper end is the figure, biased as it is, plus the
    97.5 % quantile of the resamples about their own mean.

    Args:
        table: the images.
        weights: bootstrap resamples of the same images.
        among: images that count, at least one.
        note: what was left out.
    """
    num_bins = _num_bins(int(among.sum()))
    gaps = _bin_gaps(table, np.ones((1, len(table))), among, num_bins=num_bins)[0]
    resampled = _bin_gaps(table, weights, among, num_bins=num_bins)
    resampled = resampled[np.isfinite(resampled).all(axis=1)]
    value, errors = float(np.abs(gaps).sum()), np.abs(resampled).sum(axis=1)
    num_asked, binned = int(among.sum()), f"{num_bins} bins of equal mass"
    off = np.abs(resampled - gaps).sum(axis=1)
    if off.max(initial=0.0) < NO_SPREAD:
        return without_spread(value, n=num_asked, note="; ".join(filter(None, [binned, note])))
    note = "; ".join(filter(None, [f"{binned}, interval conservative", note]))
    tail = (1 + CONFIDENCE_LEVEL) / 2
    low = value - float(np.quantile(off, tail))
    high = value + float(np.quantile(errors - errors.mean(), tail))
    return Score(
        value=value,
        low=max(0.0, low),
        high=min(1.0, high),
        n=num_asked,
        k=None,
        interval="bootstrap",
        note=note,
    )


def expected_calibration_error_values(
    table: PredictionTable, weights: Weights, *, among: Bool[np.ndarray, " n"], num_bins: int
) -> Values:
    """Returns the mean distance of confidence and accuracy over bins of equal mass (Nguyen and O'Connor 2015)."""
    return np.asarray(np.abs(_bin_gaps(table, weights, among, num_bins=num_bins)).sum(axis=1))


def _bin_gaps(
    table: PredictionTable, weights: Weights, among: Bool[np.ndarray, " n"], *, num_bins: int
) -> Float[np.ndarray, "R bins"]:
    """Returns confidence minus accuracy of each bin, times the bin's share; NaN in resamples without any image."""
    confidence, drawn, right = _levels(table, weights, among)
    total = drawn.sum(axis=1, keepdims=True)
    safe = np.where(total > 0, total, np.nan)
    bins = _bins(drawn, num_bins=num_bins)
    gap = drawn * confidence - right
    return np.stack([np.where(bins == b, gap, 0).sum(axis=1) for b in range(num_bins)], axis=1) / safe


def _bins(drawn: PerLevel, *, num_bins: int) -> Int[np.ndarray, "R U"]:
    """Returns the bin of each distinct confidence: where the middle of its images falls."""
    total = np.maximum(drawn.sum(axis=1, keepdims=True), 1)
    middle = np.cumsum(drawn, axis=1) - drawn / 2
    return np.asarray(np.minimum((num_bins * middle / total).astype(np.int64), num_bins - 1))


def reliability_bins(table: PredictionTable) -> tuple[ReliabilityBin, ...]:
    """Returns mean confidence and accuracy of bins of equal mass, the least confident first; none without answers."""
    among = table.flagged & table.has_confidence
    if not among.any():
        return ()
    confidence, drawn, right = _levels(table, np.ones((1, len(table))), among)
    bins = _bins(drawn, num_bins=_num_bins(int(among.sum())))[0]
    result = []
    for b in np.unique(bins):
        members = bins == b
        count, hits = int(drawn[0, members].sum()), int(right[0, members].sum())
        result.append(
            ReliabilityBin(
                mean_confidence=float((drawn[0] * confidence)[members].sum() / count),
                accuracy=proportion(np.arange(count) < hits, if_empty="no answers"),
            )
        )
    return tuple(result)


def with_confidence(table: PredictionTable, confidence: Float[np.ndarray, " n"]) -> PredictionTable:
    """Returns the table with other confidences, such as calibrated ones."""
    return replace(table, confidence=confidence)


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
