"""Calibration error and risk-coverage against slow written-out versions."""

import math

import numpy as np
import pytest

from velm_train.metrics.calibration import (
    aurc_values,
    calibration_scores,
    expected_calibration_error_values,
    risk_coverage_curve,
)
from velm_train.metrics.intervals import stratified_weights
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
