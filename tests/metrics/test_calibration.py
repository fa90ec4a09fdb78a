"""Calibration error and risk-coverage against slow written-out versions."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.calibration import calibration_curve

from velm_train.metrics.calibration import (
    aurc_values,
    calibration_scores,
    expected_calibration_error,
    expected_calibration_error_values,
    reliability_bins,
    risk_coverage_curve,
)
from velm_train.metrics.intervals import bootstrap_score, stratified_weights
from velm_train.metrics.table import make_table

LABELS = {"nut": ("bent", "cut", "rust"), "tile": ("oil", "crack")}


def confident_row(row, name, confidence, *, right):
    options = {"cut": math.log(confidence), "bent": math.log(1 - confidence)}
    return row(name, "cut", "cut" if right else "bent", options=options)


def table_of(row, pairs):
    rows = [confident_row(row, f"{i:03d}", c, right=r) for i, (c, r) in enumerate(pairs)]
    return make_table(rows, label_sets=LABELS)


def test_aurc_is_the_mean_of_running_error_fractions(row):
    table = table_of(row, [(0.9, True), (0.8, False), (0.7, True), (0.6, False)])
    value = aurc_values(table, np.ones((1, 4)), among=table.flagged)[0]
    assert value == pytest.approx((0 + 1 / 2 + 1 / 3 + 2 / 4) / 4)


def test_aurc_of_ties_is_the_expectation_over_their_order(row):
    table = table_of(row, [(0.9, True), (0.7, False), (0.7, True)])
    orders = [[0, 1, 0], [0, 0, 1]]
    expected = np.mean([np.mean(np.cumsum(order) / np.arange(1, 4)) for order in orders])
    assert aurc_values(table, np.ones((1, 3)), among=table.flagged)[0] == pytest.approx(expected)


def test_resampled_aurc_equals_repeating_the_rows(row):
    pairs = [(0.9, True), (0.8, False), (0.7, True), (0.6, False)]
    table = table_of(row, pairs)
    weights = np.array([[2.0, 0.0, 1.0, 1.0]])
    errors = [0, 0, 0, 1]
    expected = np.mean(np.cumsum(errors) / np.arange(1, 5))
    assert aurc_values(table, weights, among=table.flagged)[0] == pytest.approx(expected)


def test_calibration_error_of_equal_mass_bins_by_hand(row):
    table = table_of(row, [(0.6, True), (0.7, False), (0.8, True), (0.9, True)])
    # bins {0.6, 0.7} and {0.8, 0.9}: |0.65 - 0.5| and |0.85 - 1|
    value = expected_calibration_error_values(table, np.ones((1, 4)), among=table.flagged, num_bins=2)[0]
    assert value == pytest.approx(0.15)


def test_tied_confidences_are_never_split_over_bins(row):
    table = table_of(row, [(0.7, True)] * 7 + [(0.7, False)] * 3)
    value = expected_calibration_error_values(table, np.ones((1, 10)), among=table.flagged, num_bins=5)[0]
    assert value == pytest.approx(0.0, abs=1e-12)


def test_curve_ends_at_full_coverage_with_the_error_fraction(random_rows):
    table = make_table(random_rows(5), label_sets=LABELS)
    curve = risk_coverage_curve(table, among=table.flagged)
    assert curve[-1].coverage == 1.0
    assert curve[-1].risk == pytest.approx(1 - table.correct[table.flagged].mean())
    confidences = [point.confidence for point in curve]
    assert confidences == sorted(confidences, reverse=True)


def test_long_curves_are_thinned_and_keep_both_ends(row):
    pairs = [(0.5 + i / 1000, i % 3 > 0) for i in range(450)]
    curve = risk_coverage_curve(table_of(row, pairs), among=np.ones(450, dtype=np.bool_))
    assert len(curve) == 200
    assert curve[0].coverage == pytest.approx(1 / 450)
    assert curve[-1].coverage == 1.0


def test_few_answers_have_no_calibration_but_an_unparsed_share(row):
    rows = [row("a", "cut", None), row("b", "cut", "cut"), row("c", "cut", "good", flagged=False)]
    table = make_table(rows, label_sets=LABELS)
    scores = calibration_scores(table, stratified_weights(table.strata, num_bootstrap=10, seed=0))
    assert scores.expected_calibration_error.value is None
    assert "needs 20" in scores.aurc.note
    assert (scores.unparsed_fraction.k, scores.unparsed_fraction.n) == (1, 2)


def test_enough_answers_have_figures_with_intervals(random_rows):
    table = make_table(random_rows(6), label_sets=LABELS)
    scores = calibration_scores(table, stratified_weights(table.strata, num_bootstrap=100, seed=0))
    for score in (scores.expected_calibration_error, scores.aurc):
        assert 0 <= score.low <= score.high <= 1
        assert score.n == int(table.flagged.sum())
    assert "10 bins" in scores.expected_calibration_error.note


def test_calibration_error_that_no_resample_changes_has_no_interval(row):
    table = table_of(row, [(0.9, False)] * 20)
    score = expected_calibration_error(
        table, stratified_weights(table.strata, num_bootstrap=50, seed=0), among=table.flagged
    )
    assert score.value == pytest.approx(0.9)
    assert (score.low, score.high, score.interval) == (None, None, "none")
    assert score.note == "2 bins of equal mass; no interval: every resample gives the same value"


def test_reliability_bins_agree_with_scikit_learn(row):
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1.0, size=100)
    right = rng.random(100) < confidence
    bins = reliability_bins(table_of(row, list(zip(confidence.tolist(), right.tolist(), strict=True))))
    accuracy, mean_confidence = calibration_curve(right, confidence, n_bins=10, strategy="quantile")
    assert [one.accuracy.n for one in bins] == [10] * 10
    assert [one.accuracy.value for one in bins] == pytest.approx(accuracy.tolist())
    assert [one.mean_confidence for one in bins] == pytest.approx(mean_confidence.tolist())
    gaps = np.abs(accuracy - mean_confidence) / 10
    table = table_of(row, list(zip(confidence.tolist(), right.tolist(), strict=True)))
    value = expected_calibration_error_values(table, np.ones((1, 100)), among=table.flagged, num_bins=10)[0]
    assert gaps.sum() == pytest.approx(value)


def fresh(template, rng, error_rate):
    """The template with new confidences and answers, without making rows."""
    confidence = rng.uniform(0.5, 1.0, size=len(template))
    right = rng.random(len(template)) < np.clip(confidence - error_rate, 0, 1)
    pred = np.where(right, template.gt_type, template.gt_type - 1)  # "bent" instead of "cut"
    return replace(template, confidence=confidence, pred_type=pred)


@pytest.mark.parametrize("too_sure_by", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("num", [40, 150])
def test_calibration_error_interval_covers_at_its_nominal_rate(row, too_sure_by, num):
    """Over fresh samples the interval holds the true error at 95 % or more; percentiles of the bootstrap do not."""
    rng = np.random.default_rng(1)
    template = table_of(row, [(0.9, True)] * num)
    weights = rng.multinomial(num, np.full(num, 1 / num), size=200).astype(np.float64)
    covered = 0
    for _ in range(80):
        score = expected_calibration_error(fresh(template, rng, too_sure_by), weights, among=template.flagged)
        covered += score.low <= too_sure_by + 1e-9 and too_sure_by <= score.high
    assert covered >= stats.binom.ppf(0.001, 80, 0.95)


def test_area_interval_covers_at_its_nominal_rate(row):
    rng = np.random.default_rng(2)
    template, num = table_of(row, [(0.9, True)] * 120), 120
    many = table_of(row, [(0.9, True)] * 3000)
    truth = float(
        np.mean([aurc_values(fresh(many, rng, 0.1), np.ones((1, 3000)), among=many.flagged)[0] for _ in range(15)])
    )
    weights = rng.multinomial(num, np.full(num, 1 / num), size=200).astype(np.float64)
    covered = 0
    for _ in range(80):
        table = fresh(template, rng, 0.1)
        score = bootstrap_score(lambda w, t=table: aurc_values(t, w, among=t.flagged), weights, n=num)
        covered += score.low <= truth <= score.high
    assert covered >= stats.binom.ppf(0.001, 80, 0.95)
