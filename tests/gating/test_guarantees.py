"""What n calibration images promise, against simulation, tables and scipy's own interval."""

import numpy as np
import pytest
from scipy.stats import binomtest

from velm_train.core.errors import GateError
from velm_train.gating.guarantees import clopper_pearson, guarantee, pac_upper


@pytest.mark.parametrize(("alpha", "n"), [(0.1, 29), (0.05, 59), (0.02, 149), (0.01, 299), (0.005, 598)])
def test_zero_exceedances_need_the_known_number_of_images(alpha, n):
    """With k = 1 the bound is 1 - 0.05^(1/n), and these n are the published sample sizes."""
    assert pac_upper(n, 1 / (n + 1)) == pytest.approx(1 - 0.05 ** (1 / n), rel=1e-9)
    assert pac_upper(n, 1 / (n + 1)) <= alpha < pac_upper(n - 1, 1 / n)


def test_pac_bound_covers_the_true_rate_of_frozen_thresholds():
    n, alpha, rank = 59, 0.1, 6
    uniform = np.random.default_rng(5).random((20_000, n))
    true_rates = 1 - np.sort(uniform, axis=1)[:, n - rank]  # for uniform scores the rate above t is 1 - t
    share = (true_rates <= pac_upper(n, alpha)).mean()
    assert abs(share - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 20_000)


@pytest.mark.parametrize(("events", "trials"), [(0, 20), (1, 37), (18, 37), (37, 37)])
def test_clopper_pearson_equals_scipy(events, trials):
    expected = binomtest(events, trials).proportion_ci(confidence_level=0.95, method="exact")
    assert clopper_pearson(events, trials) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_impossible_counts_are_refused():
    with pytest.raises(GateError, match="5 events in 4 trials"):
        clopper_pearson(5, 4)
    with pytest.raises(GateError, match="0 trials"):
        clopper_pearson(0, 0)


def test_split_guarantee_names_the_marginal_rate():
    result = guarantee(60, 0.05, calibration="split")
    assert result.marginal_rate == 3 / 61
    assert result.worst_case == 0.05
    assert "60 normal images" in result.text
    assert "4.92%" in result.text
    assert "leave-one-out" not in result.text


def test_leave_one_out_carries_the_jackknife_plus_caveat():
    result = guarantee(60, 0.05, calibration="leave_one_out")
    assert result.worst_case == pytest.approx(0.1)
    assert "jackknife+" in result.text
    assert "10.00%" in result.text
    assert guarantee(9, 0.9, calibration="leave_one_out").worst_case == 1.0
