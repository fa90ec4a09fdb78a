"""Measured false-alarm rates against the promised ones: many gates on known distributions."""

import numpy as np
import pytest

from velm_train.gating.conformal import image_threshold, p_values, threshold_rank
from velm_train.gating.guarantees import Scheme, central_range, false_alarm_counts, pac_upper, worst_case
from velm_train.gating.parts import part_numbers, part_scores

NUM_RUNS = 20_000
LEAVE_ONE_OUT = Scheme(kind="leave_one_out", num_folds=0, transductive=False)


def band(rate: float) -> float:
    """Returns four standard deviations of a share of NUM_RUNS."""
    return 4 * float(np.sqrt(rate * (1 - rate) / NUM_RUNS))


def thresholds(calibration: np.ndarray, *, alpha: float) -> np.ndarray:
    """Returns `image_threshold` of every row, checked on the first rows against the real one."""
    n = calibration.shape[1]
    found = np.sort(calibration, axis=1)[:, n - threshold_rank(alpha, n)]
    for row in range(10):
        assert image_threshold(calibration[row].astype(np.float64), alpha=alpha) == found[row]
    return found


def held_out_distances(points: np.ndarray, fold: np.ndarray, *, detector: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns scores of the first n points without their fold, and of the last point with all n.

    Args:
        points: (runs, n + 1, 2).
        fold: (n,) number of each point's fold.
        detector: "mean" (distance to the mean of the fitted points) or "nearest" (to the nearest of them).
    """
    known, new = points[:, :-1], points[:, -1:]
    apart = fold[:, None] != fold[None, :]
    if detector == "mean":
        centres = apart.astype(np.float32) / apart.sum(axis=1, keepdims=True) @ known
        overall = known.mean(axis=1, keepdims=True)
        return np.linalg.norm(known - centres, axis=-1), np.linalg.norm(new - overall, axis=-1)[:, 0]
    squared = ((known[:, :, None] - known[:, None, :]) ** 2).sum(axis=-1)
    held_out = np.where(apart, squared, np.inf).min(axis=-1)
    return np.sqrt(held_out), np.sqrt(((known - new) ** 2).sum(axis=-1).min(axis=-1))


def measured_rate(n: int, alpha: float, *, num_folds: int, detector: str) -> float:
    rng = np.random.default_rng([n, num_folds, len(detector)])
    fold = np.arange(n) % num_folds
    flagged = []
    for _ in range(NUM_RUNS // 2000):
        points = rng.standard_normal((2000, n + 1, 2), dtype=np.float32)
        calibration, new = held_out_distances(points, fold, detector=detector)
        flagged.append(new > thresholds(calibration, alpha=alpha))
    return float(np.mean(flagged))


@pytest.mark.parametrize(("n", "alpha"), [(19, 0.05), (40, 0.1), (99, 0.01), (150, 0.02)])
@pytest.mark.parametrize("shape", ["standard_normal", "standard_cauchy"])
def test_split_gate_has_the_promised_rate(n, alpha, shape):
    scores = getattr(np.random.default_rng([n, len(shape)]), shape)((NUM_RUNS, n + 1))
    rate = np.mean(scores[:, n] > thresholds(scores[:, :n], alpha=alpha))
    expected = threshold_rank(alpha, n) / (n + 1)
    assert expected <= alpha
    assert abs(rate - expected) < band(expected)


@pytest.mark.parametrize("levels", [1, 2, 5, 30])
def test_ties_only_lower_the_rate(levels):
    scores = np.random.default_rng(levels).integers(0, levels, (NUM_RUNS, 61)).astype(np.float64)
    rate = np.mean(scores[:, 60] > thresholds(scores[:, :60], alpha=0.05))
    assert rate <= 0.05 + band(0.05)
    assert levels > 1 or rate == 0.0


def test_p_values_of_tied_scores_stay_valid():
    scores = np.random.default_rng(4).integers(0, 4, (4000, 31)).astype(np.float64)
    found = np.array([p_values(row[30:], row[:30])[0] for row in scores])
    for level in np.arange(1, 31) / 31:
        assert np.mean(found <= level) <= level + 4 * np.sqrt(level * (1 - level) / 4000)


@pytest.mark.parametrize(("n", "alpha"), [(19, 0.05), (19, 0.1), (39, 0.05)])
@pytest.mark.parametrize("detector", ["mean", "nearest"])
def test_leave_one_out_gate_stays_near_alpha_and_below_twice(n, alpha, detector):
    rate = measured_rate(n, alpha, num_folds=n, detector=detector)
    assert alpha / 2 < rate < alpha + band(alpha)
    assert rate < worst_case(n, alpha, scheme=LEAVE_ONE_OUT) - 4 * band(alpha)


@pytest.mark.parametrize("detector", ["mean", "nearest"])
@pytest.mark.parametrize("num_folds", [4, 10])
def test_k_fold_gate_stays_near_alpha_and_below_its_bound(num_folds, detector):
    n, alpha = 40, 0.1
    rate = measured_rate(n, alpha, num_folds=num_folds, detector=detector)
    scheme = Scheme(kind="k_fold", num_folds=num_folds, transductive=False)
    assert alpha / 4 < rate < alpha + band(alpha)
    assert rate < worst_case(n, alpha, scheme=scheme)


def test_bound_says_nothing_about_a_detector_that_changes_altogether_with_one_image():
    """The caveat is needed: fitted on 19 images it adds 100 to every score, on 18 it does not."""
    points = np.abs(np.random.default_rng(6).standard_normal((50, 20)))
    with_all, without_one = points[:, 19] + 100, points[:, :19]
    assert np.all(with_all > np.sort(without_one, axis=1)[:, -1])
    rates = [p_values(points[run, 19:], without_one[run])[0] <= 0.05 for run in range(50)]
    assert np.mean(rates) < 0.25  # compared with the detectors that lack one image, as the theorem does


@pytest.mark.parametrize(("n", "alpha"), [(19, 0.05), (29, 0.1), (59, 0.1), (120, 0.02)])
def test_pac_bound_covers_the_true_rate_of_frozen_thresholds(n, alpha):
    uniform = np.random.default_rng(n).random((NUM_RUNS, n))
    true_rates = 1 - thresholds(uniform, alpha=alpha)  # for uniform scores the rate above t is 1 - t
    share = np.mean(true_rates <= pac_upper(n, alpha))
    assert abs(share - 0.95) < band(0.95)


@pytest.mark.parametrize(("n", "alpha", "m"), [(19, 0.05, 8), (40, 0.1, 30), (99, 0.05, 300)])
def test_range_of_false_alarms_holds_the_observed_ones(n, alpha, m):
    rng = np.random.default_rng(m)
    scores = rng.random((NUM_RUNS, n + m), dtype=np.float32)
    counts = (scores[:, n:] > thresholds(scores[:, :n], alpha=alpha)[:, None]).sum(axis=1)
    probabilities = false_alarm_counts(n, alpha, num_tested=m)
    observed = np.bincount(counts, minlength=m + 1) / NUM_RUNS
    np.testing.assert_allclose(observed, probabilities, atol=band(0.5))
    low, high = central_range(probabilities)
    assert np.mean((counts >= low) & (counts <= high)) >= 0.95 - band(0.95)


def views_of_parts(rng: np.random.Generator, num_parts: int, *, spread: float) -> np.ndarray:
    """Returns (runs, parts, 3) scores: three views that share most of their part's own score."""
    shared = rng.standard_normal((NUM_RUNS, num_parts, 1))
    return shared + spread * rng.standard_normal((NUM_RUNS, num_parts, 3))


@pytest.mark.parametrize("spread", [0.0, 0.3, 3.0])
def test_calibrating_by_parts_holds_for_parts_and_for_single_views(spread):
    scores = views_of_parts(np.random.default_rng(7), 21, spread=spread)
    highest = scores.max(axis=-1)
    numbers = part_numbers([str(index // 3) for index in range(63)])
    np.testing.assert_array_equal(part_scores(scores[0].ravel(), numbers), highest[0])
    limits = thresholds(highest[:, :20], alpha=0.1)
    by_part = np.mean(highest[:, 20] > limits)
    by_view = np.mean(scores[:, 20, 0] > limits)
    assert abs(by_part - 2 / 21) < band(2 / 21)
    assert by_view <= by_part


def test_calibrating_by_views_would_break_the_promise():
    """13 parts in 39 images: the images alone would allow 5 %, the parts do not, and 1 part in 14 is flagged."""
    scores = views_of_parts(np.random.default_rng(8), 14, spread=0.0)
    limits = thresholds(scores[:, :13].reshape(NUM_RUNS, 39), alpha=0.05)
    rate = np.mean(scores[:, 13, 0] > limits)
    assert rate > 0.05 + band(0.05)
    assert abs(rate - 1 / 14) < band(1 / 14)
