"""Conformal p-values, their floor, and the threshold that is equivalent to p <= alpha."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from velm_train.core.errors import GateError
from velm_train.gating.conformal import (
    image_threshold,
    largest_count,
    num_needed,
    p_value,
    p_values,
    smallest_alpha,
    threshold_rank,
)


def test_p_values_equal_hand_computed_ones():
    calibration = np.array([1.0, 3.0, 2.0, 4.0])
    scores = np.array([0.5, 1.0, 2.5, 4.0, 9.0])
    np.testing.assert_allclose(p_values(scores, calibration), [5 / 5, 5 / 5, 3 / 5, 2 / 5, 1 / 5], rtol=0)


def test_ties_with_calibration_scores_count_as_at_least_as_large():
    assert p_value(2.0, np.array([2.0, 2.0, 2.0, 1.0])) == 4 / 5


def test_float32_calibration_gives_the_same_p_value():
    calibration = np.array([0.1, 0.2, 0.3], dtype=np.float32)
    assert p_value(float(calibration[1]), calibration) == 3 / 4


@pytest.mark.parametrize(("fraction", "total"), [(0.29, 100), (0.07, 100), (0.03, 100), (0.57, 100), (1 / 3, 3)])
def test_largest_count_is_not_fooled_by_rounding(fraction, total):
    exact = {0.29: 29, 0.07: 7, 0.03: 3, 0.57: 57, 1 / 3: 1}[fraction]
    assert largest_count(fraction, total) == exact


def test_largest_count_equals_exact_decimal_arithmetic():
    for thousandths in range(1, 1000):
        for total in (7, 20, 100, 250, 1000):
            expected = Fraction(thousandths, 1000) * total // 1
            assert largest_count(thousandths / 1000, total) == expected


@pytest.mark.parametrize(("n", "alpha"), [(9, 0.1), (19, 0.05), (49, 0.02), (99, 0.01), (199, 0.005)])
def test_alpha_is_reached_from_the_stated_number_of_images_on(n, alpha):
    assert threshold_rank(alpha, n) == 1
    with pytest.raises(GateError, match=f"n={n - 1} .*floor.*at least {n} normal images"):
        threshold_rank(alpha, n - 1)


def test_number_needed_is_the_least_that_reaches():
    for alpha in (0.9, 0.5, 0.34, 1 / 3, 0.1, 0.07, 0.05, 1 / 49, 1 / 98, 1 / 103, 0.01, 0.005):
        needed = num_needed(alpha)
        assert smallest_alpha(needed) <= alpha
        assert needed == 0 or smallest_alpha(needed - 1) > alpha


def test_smallest_alpha_is_itself_reachable():
    for n in range(1, 300):
        assert threshold_rank(smallest_alpha(n), n) == 1


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_alpha_outside_the_unit_interval_is_refused(alpha):
    with pytest.raises(GateError, match=r"gate\.alpha"):
        threshold_rank(alpha, 100)


def test_score_equal_to_threshold_is_normal():
    calibration = np.arange(1.0, 20.0)  # 19 scores, alpha 0.1: k = 2, threshold = 18
    threshold = image_threshold(calibration, alpha=0.1)
    assert threshold == 18.0
    assert p_value(18.0, calibration) == 3 / 20
    assert p_value(18.0001, calibration) == 2 / 20


@settings(max_examples=300, deadline=None)
@given(
    calibration=st.lists(st.integers(0, 6), min_size=1, max_size=60),
    score=st.floats(-1, 7) | st.integers(-1, 7).map(float),
    alpha=st.integers(1, 99).map(lambda hundredths: hundredths / 100) | st.floats(0.001, 0.999),
)
def test_threshold_is_equivalent_to_p_value_ties_included(calibration, score, alpha):
    scores = np.array(calibration, dtype=np.float64)
    if alpha < smallest_alpha(scores.size):
        with pytest.raises(GateError):
            image_threshold(scores, alpha=alpha)
        return
    assert (score > image_threshold(scores, alpha=alpha)) == (p_value(score, scores) <= alpha)


@pytest.mark.parametrize(("n", "alpha"), [(19, 0.05), (25, 0.1), (60, 0.05), (99, 0.01)])
def test_simulated_false_alarm_rate_lies_in_the_binomial_band(n, alpha):
    generator = np.random.default_rng(20260101)
    num_runs = 20_000
    scores = generator.standard_exponential((num_runs, n + 1))
    rank = threshold_rank(alpha, n)
    thresholds = np.sort(scores[:, :n], axis=1)[:, n - rank]
    for run in range(20):
        assert image_threshold(scores[run, :n], alpha=alpha) == thresholds[run]
    expected = rank / (n + 1)
    deviation = 4 * np.sqrt(expected * (1 - expected) / num_runs)
    assert abs((scores[:, n] > thresholds).mean() - expected) < deviation
    assert expected <= alpha


def test_empty_calibration_and_nan_are_refused():
    with pytest.raises(GateError, match="0 calibration scores"):
        p_value(1.0, np.zeros(0))
    with pytest.raises(GateError, match="not finite"):
        p_value(float("nan"), np.ones(3))
    with pytest.raises(GateError, match="not finite"):
        image_threshold(np.array([1.0, np.nan]), alpha=0.5)
