"""Scores of normal images go in; conformal p-values and the threshold that belongs to a false-alarm rate come out.

With n calibration scores, `p = (1 + #{calibration >= score}) / (n + 1)` (Vovk, Gammerman and Shafer 2005, section 2.2).
If the new image is normal and exchangeable with the calibration images, then `P(p <= alpha) <= alpha`.
"""

import math

import numpy as np
from jaxtyping import Float

from velm_train.core.errors import GateError

Scores = Float[np.ndarray, " n"]
"""Raw anomaly scores, higher is more anomalous."""


def _require_usable(scores: Scores, *, what: str) -> None:
    if not bool(np.isfinite(scores).all()):
        raise GateError(f"{what} hold values that are not finite; a NaN would pass as normal, so mend the detector")


def _require_calibration(calibration: Scores) -> None:
    if calibration.size == 0:
        raise GateError("the gate got 0 calibration scores; it needs at least 1, and 1/alpha - 1 to reach alpha")
    _require_usable(calibration, what="calibration scores")


def p_values(scores: Float[np.ndarray, " m"], calibration: Scores) -> Float[np.ndarray, " m"]:
    """Returns the conformal p-value of each score, in [1/(n + 1), 1].

    Raises:
        GateError: if there is no calibration score, or a value is not finite.
    """
    _require_calibration(calibration)
    _require_usable(scores, what="scores")
    ordered = np.sort(calibration.astype(np.float64))
    num_at_least = ordered.size - np.searchsorted(ordered, scores.astype(np.float64), side="left")
    return np.asarray((1 + num_at_least) / (ordered.size + 1), dtype=np.float64)


def p_value(score: float, calibration: Scores) -> float:
    """Returns the conformal p-value of one score, in [1/(n + 1), 1].

    Raises:
        GateError: if there is no calibration score, or a value is not finite.
    """
    return float(p_values(np.array([score], dtype=np.float64), calibration)[0])


def smallest_alpha(num_calibration: int) -> float:
    """Returns the floor of the false-alarm rates that n calibration scores can reach: 1 / (n + 1)."""
    return 1 / (num_calibration + 1)


def num_needed(alpha: float) -> int:
    """Returns the fewest calibration scores with which alpha can be reached: the least n with 1 / (n + 1) <= alpha.

    Args:
        alpha: in (0, 1).
    """
    total = max(1, math.ceil(1 / alpha) - 1)  # 1 / alpha may round up where alpha is itself a reciprocal
    while largest_count(alpha, total) == 0:
        total += 1
    return total - 1


def largest_count(fraction: float, total: int) -> int:
    """Returns the largest m with `m / total <= fraction`, as floating-point division sees it.

    `floor(fraction * total)` is not that number: 0.29 * 100 is 28.999999999999996. Division rounds correctly, so the
    quotient m / total equals the fraction wherever the two are equal as real numbers.

    Args:
        fraction: in [0, 1].
        total: at least 1.
    """
    count = math.floor(fraction * total)
    while (count + 1) / total <= fraction:
        count += 1
    while count / total > fraction:
        count -= 1
    return count


def threshold_rank(alpha: float, num_calibration: int) -> int:
    """Returns k: the threshold is the k-th largest calibration score, and k - 1 calibration images exceed it.

    Args:
        alpha: the false-alarm rate asked for, in (0, 1).
        num_calibration: n, at least 1.

    Raises:
        GateError: if alpha is outside (0, 1) or below the floor 1 / (n + 1).
    """
    if not 0 < alpha < 1:
        raise GateError(f"gate.alpha is {alpha}; it must lie between 0 and 1, such as 0.05")
    rank = largest_count(alpha, num_calibration + 1)
    if rank == 0:
        raise GateError(
            f"gate.alpha={alpha:g} cannot be reached with n={num_calibration} calibration images: the floor is "
            f"1/(n+1)={smallest_alpha(num_calibration):.4g}; raise gate.alpha to the floor or above, or calibrate on "
            f"at least {num_needed(alpha)} normal images (views of one part count as one)"
        )
    return rank


def image_threshold(calibration: Scores, *, alpha: float) -> float:
    """Returns the threshold t such that `score > t` if and only if `p_value(score) <= alpha`, ties included.

    `p <= alpha` means `#{calibration >= score} <= k - 1` with k = threshold_rank(alpha, n). A score above the k-th
    largest calibration score has at most k - 1 scores at or above it; a score equal to it or below has at least k.

    Returns:
        The k-th largest calibration score, raw units.

    Raises:
        GateError: if alpha cannot be reached, or there is no finite calibration score.
    """
    _require_calibration(calibration)
    rank = threshold_rank(alpha, calibration.size)
    return float(np.sort(calibration.astype(np.float64))[calibration.size - rank])
