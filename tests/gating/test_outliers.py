"""Images that look like no normal are named; clean sets are left in peace."""

import numpy as np
import pytest

from velm_train.core.errors import GateError
from velm_train.gating.outliers import FALSE_NAMING_RATE, MIN_SCORES, find_outliers, tail_p_values


def named_share(draws: np.ndarray) -> float:
    return float(np.mean([bool(find_outliers(scores)) for scores in draws]))


@pytest.mark.parametrize("n", [8, 20, 60, 300])
@pytest.mark.parametrize("shape", ["standard_exponential", "standard_normal", "gumbel"])
def test_clean_sets_are_rarely_suspected(n, shape):
    draws = getattr(np.random.default_rng([n, len(shape)]), shape)(size=(600, n))
    assert named_share(draws) < FALSE_NAMING_RATE + 3 * np.sqrt(0.05 * 0.95 / 600)


def test_p_value_of_a_new_excess_is_uniform():
    """A score of its own above an exponential bulk: the chance under the fitted tail is exact, scale and all."""
    rng = np.random.default_rng(3)
    chances = []
    for _ in range(3000):
        bulk = np.sort(rng.standard_exponential(20))[::-1]
        excesses = bulk[:10] - np.median(bulk)
        upper = excesses[::-1]
        scale = (upper[:8].sum() + 2 * upper[7]) / 8
        chances.append((1 + rng.standard_exponential() / scale / 8) ** -8.0)
    observed = np.array([np.mean(np.array(chances) <= level) for level in (0.01, 0.05, 0.25, 0.5)])
    np.testing.assert_allclose(observed, [0.01, 0.05, 0.25, 0.5], atol=0.03)


def test_tail_equals_a_written_out_one():
    descending = np.array([9.0, 6.0, 5.0, 4.5, 4.0, 3.0, 2.0, 1.0])  # median 4.25, excesses 4.75, 1.75, 0.75, 0.25
    scale = (0.25 + 0.75 + 1.75 + 1 * 1.75) / 3
    expected = [0.5 * (1 + excess / (3 * scale)) ** -3 for excess in (4.75, 1.75, 0.75, 0.25)]
    assert tail_p_values(descending).tolist() == pytest.approx([*expected, 1.0, 1.0, 1.0, 1.0])


def test_defects_among_the_normals_are_found_highest_first():
    rng = np.random.default_rng(1)
    for _ in range(20):
        scores = rng.normal(10.0, 1.0, 60)
        scores[[7, 31]] = 22.0, 25.0
        found = find_outliers(scores)
        assert [one.index for one in found] == [31, 7]
        assert [one.anomaly_score for one in found] == [25.0, 22.0]
        assert found[0].p_value < found[1].p_value < 1e-3


def test_scale_and_shift_change_nothing():
    scores = np.random.default_rng(2).normal(0.0, 1.0, 40)
    scores[3] = 14.0
    first, second = find_outliers(scores), find_outliers(1e-6 * scores - 4.0)
    assert [one.index for one in first] == [one.index for one in second] == [3]
    assert first[0].p_value == pytest.approx(second[0].p_value, rel=1e-3)


def test_identical_scores_hold_no_outlier_and_one_odd_score_is_one():
    assert find_outliers(np.full(30, 2.5)) == ()
    odd = np.full(30, 2.5)
    odd[4] = 2.6
    (found,) = find_outliers(odd)
    assert (found.index, found.p_value) == (4, 0.0)


def test_low_scores_are_never_named():
    scores = np.random.default_rng(5).normal(0.0, 1.0, 40)
    scores[9] = -100.0
    assert find_outliers(scores) == ()


def test_few_scores_say_nothing_and_nan_is_refused():
    assert find_outliers(np.array([1.0] * (MIN_SCORES - 2) + [50.0])) == ()
    with pytest.raises(GateError, match="not finite"):
        find_outliers(np.array([1.0] * 20 + [np.nan]))
