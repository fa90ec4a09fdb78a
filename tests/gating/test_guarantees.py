"""What n calibration parts promise, against tables, published bounds and scipy's own interval."""

import numpy as np
import pytest
from scipy.stats import binomtest

from velm_train.core.errors import GateError
from velm_train.gating.guarantees import (
    Scheme,
    central_range,
    clopper_pearson,
    false_alarm_counts,
    guarantee,
    pac_upper,
    reach,
    worst_case,
)

SPLIT = Scheme(kind="split", num_folds=0, transductive=False)
LEAVE_ONE_OUT = Scheme(kind="leave_one_out", num_folds=0, transductive=False)


def folds(number: int) -> Scheme:
    return Scheme(kind="k_fold", num_folds=number, transductive=False)


@pytest.mark.parametrize(
    ("alpha", "n", "n_95"), [(0.1, 9, 29), (0.05, 19, 59), (0.02, 49, 149), (0.01, 99, 299), (0.005, 199, 598)]
)
def test_reach_equals_the_published_sample_sizes(alpha, n, n_95):
    assert pac_upper(n_95, 1 / (n_95 + 1)) == pytest.approx(1 - 0.05 ** (1 / n_95), rel=1e-9)
    assert pac_upper(n_95, 1 / (n_95 + 1)) <= alpha < pac_upper(n_95 - 1, 1 / n_95)
    enough, short = reach(n, alpha), reach(n - 1, alpha)
    assert (enough.reachable, enough.num_needed, enough.num_needed_95) == (True, n, n_95)
    assert (short.reachable, short.num_needed, short.num_needed_95) == (False, n, n_95)
    assert enough.pac_upper_95 == pac_upper(n, alpha)
    assert short.pac_upper_95 is None


@pytest.mark.parametrize(("events", "trials"), [(0, 20), (1, 37), (18, 37), (37, 37)])
def test_clopper_pearson_equals_scipy(events, trials):
    expected = binomtest(events, trials).proportion_ci(confidence_level=0.95, method="exact")
    assert clopper_pearson(events, trials) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_impossible_counts_are_refused():
    with pytest.raises(GateError, match="5 events in 4 trials"):
        clopper_pearson(5, 4)
    with pytest.raises(GateError, match="0 trials"):
        clopper_pearson(0, 0)


def test_false_alarm_counts_equal_the_order_statistics_of_two_samples():
    """With n = 3, k = 1 and m = 2 new ones, all 10 orders of 3 + 2 scores are equally likely.

    The 2 new ones exceed all 3 old ones in 1 of them, exactly 1 does in 3, none in 6.
    """
    probabilities = false_alarm_counts(3, 0.25, num_tested=2)
    assert probabilities == pytest.approx([6 / 10, 3 / 10, 1 / 10])
    assert false_alarm_counts(60, 0.05, num_tested=40) @ np.arange(41) == pytest.approx(40 * 3 / 61)


def test_central_range_leaves_a_fortieth_on_either_side():
    assert central_range(np.full(50, 0.02)) == (1, 48)
    assert central_range(np.array([1.0])) == (0, 0)
    assert central_range(np.array([0.02, 0.96, 0.02])) == (1, 1)


def test_worst_case_of_split_and_leave_one_out():
    assert worst_case(60, 0.05, scheme=SPLIT) == 0.05
    assert worst_case(60, 0.05, scheme=LEAVE_ONE_OUT) == pytest.approx(0.1)
    assert worst_case(9, 0.9, scheme=LEAVE_ONE_OUT) == 1.0


@pytest.mark.parametrize(
    ("n", "number", "excess"),
    [
        (100, 5, min(2 * (4 / 5) / 21, (1 - 5 / 100) / 6)),  # 0.0762: the first term
        (100, 50, min(2 * (49 / 50) / 3, (1 - 50 / 100) / 51)),  # 0.0098: the second
        (60, 60, 0.0),  # folds of one image: leave-one-out
        (101, 5, 2 * 4 / 106),  # unequal folds: only the first term is proven
        (3, 5, 0.0),  # no more folds than images
    ],
)
def test_k_fold_carries_the_excess_of_cv_plus(n, number, excess):
    assert worst_case(n, 0.05, scheme=folds(number)) == pytest.approx(0.1 + excess)
    assert n == 3 or worst_case(n, 0.05, scheme=folds(number)) <= 0.1 + np.sqrt(2 / n)  # the paper's simpler bound


def test_split_guarantee_names_the_marginal_rate():
    result = guarantee(60, 0.05, scheme=SPLIT, num_images=60)
    assert result.marginal_rate == 3 / 61
    assert result.worst_case == 0.05
    assert "60 normal images" in result.text
    assert "4.92%" in result.text
    assert "leave-one-out" not in result.text
    assert "part" not in result.text


def test_leave_one_out_and_folds_carry_their_caveats():
    leaving = guarantee(60, 0.05, scheme=LEAVE_ONE_OUT, num_images=60).text
    assert "leave-one-out" in leaving
    assert "(jackknife+) is at most 10.00%" in leaving
    folding = guarantee(100, 0.05, scheme=folds(5), num_images=100).text
    assert "5-fold" in folding
    assert "(CV+) is at most 17.62%" in folding


def test_parts_with_several_views_are_said_to_count_once():
    text = guarantee(20, 0.05, scheme=SPLIT, num_images=60).text
    assert "20 normal parts in 60 images" in text
    assert "seen in as many views" in text
    assert "flagged if any view is" in text


def test_scheme_needs_folds_for_k_fold_and_for_nothing_else():
    with pytest.raises(GateError, match=r"detector\.num_folds"):
        folds(0)
    with pytest.raises(GateError, match="has no folds"):
        Scheme(kind="leave_one_out", num_folds=5, transductive=False)
