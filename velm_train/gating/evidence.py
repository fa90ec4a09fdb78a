"""A calibrated gate and scored test images go in; what is promised beside what was found comes out.

False alarms are counted in physical parts, as they are promised: a part is flagged if any of its views is. Missed
defects are counted in images, because views of one part may show different defects, or none.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from velm_train.core.gate_card import AlphaRow, Verdict
from velm_train.core.scores import Score
from velm_train.gating.conformal import Scores, image_threshold, threshold_rank
from velm_train.gating.gate import CalibratedGate
from velm_train.gating.guarantees import (
    central_range,
    clopper_pearson,
    false_alarm_counts,
    pac_upper,
    reach,
    worst_case,
)

UNTESTED_NORMALS = "no normal test images"
UNTESTED_DEFECTS = "no defective test images"


@dataclass(frozen=True, kw_only=True, slots=True)
class TriedGate:
    """A category's gate and the scores it is tried on.

    Attributes:
        normals: one score for each normal test part.
        defects: one score for each defective test image.
    """

    gate: CalibratedGate
    normals: Scores
    defects: Float[np.ndarray, " m"]


def share(num_hits: int, num_parts: int, *, if_empty: str) -> Score:
    """Returns a rate with its exact 95 % interval; `if_empty` is the note when nothing was tested."""
    if num_parts == 0:
        return Score.undefined(if_empty)
    low, high = clopper_pearson(num_hits, num_parts)
    return Score(
        value=num_hits / num_parts,
        low=low,
        high=high,
        n=num_parts,
        k=num_hits,
        interval="clopper-pearson",
        note="",
    )


def alpha_row(tried: TriedGate, alpha: float) -> AlphaRow:
    """Returns promise and finding of one category at one false-alarm rate."""
    gate = tried.gate
    n = gate.num_calibration
    if not reach(n, alpha).reachable:
        return out_of_reach(alpha, note=f"out of reach with {n} normals")
    guaranteed = not gate.scheme.transductive
    return dataclasses.replace(
        _found([tried], alpha, note=""),
        threshold=image_threshold(gate.calibration_array(), alpha=alpha),
        pac_upper_95=pac_upper(n, alpha) if guaranteed else None,
        worst_case=worst_case(n, alpha, scheme=gate.scheme) if guaranteed else None,
    )


def overall_row(tried: Sequence[TriedGate], alpha: float) -> AlphaRow:
    """Returns promise and finding over all categories that reach alpha; the note names the others."""
    reaching = [one for one in tried if reach(one.gate.num_calibration, alpha).reachable]
    left_out = [one.gate.category for one in tried if one not in reaching]
    if not reaching:
        return out_of_reach(alpha, note="out of reach in every category")
    note = f"out of reach, and left out: {', '.join(left_out)}" if left_out else ""
    return _found(reaching, alpha, note=note)


def out_of_reach(alpha: float, *, note: str) -> AlphaRow:
    """Returns the row of a rate that the calibration parts cannot hold."""
    return AlphaRow(
        alpha=alpha,
        reachable=False,
        num_needed=reach(1, alpha).num_needed,
        threshold=None,
        promised_rate=None,
        pac_upper_95=None,
        worst_case=None,
        expected_low=None,
        expected_high=None,
        false_alarms=Score.undefined(note),
        misses=Score.undefined(note),
        verdict="not tested",
        note=note,
    )


def _found(tried: Sequence[TriedGate], alpha: float, *, note: str) -> AlphaRow:
    """Returns the pooled row of categories that reach alpha."""
    limits = [image_threshold(one.gate.calibration_array(), alpha=alpha) for one in tried]
    alarms = sum(int((one.normals > limit).sum()) for one, limit in zip(tried, limits, strict=True))
    missed = sum(int((one.defects <= limit).sum()) for one, limit in zip(tried, limits, strict=True))
    num_normals, num_defects = (sum(sizes) for sizes in zip(*map(_sizes, tried), strict=True))
    guaranteed = not any(one.gate.scheme.transductive for one in tried)
    low = high = None
    if guaranteed and num_normals:
        low, high = central_range(_alarm_counts(tried, alpha))
    return AlphaRow(
        alpha=alpha,
        reachable=True,
        num_needed=reach(1, alpha).num_needed,
        threshold=None,
        promised_rate=_promised_rate(tried, alpha) if guaranteed else None,
        pac_upper_95=None,
        worst_case=None,
        expected_low=low,
        expected_high=high,
        false_alarms=share(alarms, num_normals, if_empty=UNTESTED_NORMALS),
        misses=share(missed, num_defects, if_empty=UNTESTED_DEFECTS),
        verdict=_verdict(alarms, low, high, guaranteed=guaranteed),
        note=note,
    )


def _sizes(tried: TriedGate) -> tuple[int, int]:
    return tried.normals.size, tried.defects.size


def _promised_rate(tried: Sequence[TriedGate], alpha: float) -> float:
    """Returns the mean of k / (n + 1), each category weighing as much as its normal test parts, or all alike."""
    sizes = [one.gate.num_calibration for one in tried]
    rates = [threshold_rank(alpha, n) / (n + 1) for n in sizes]
    weights = [one.normals.size for one in tried]
    return float(np.average(rates, weights=weights if sum(weights) else None))


def _alarm_counts(tried: Sequence[TriedGate], alpha: float) -> Float[np.ndarray, " counts"]:
    """Returns the probability of each total of false alarms; thresholds of two categories are independent."""
    total = np.ones(1)
    for one in tried:
        counts = false_alarm_counts(one.gate.num_calibration, alpha, num_tested=one.normals.size)
        total = np.convolve(total, counts)
    return total


def _verdict(num_alarms: int, low: int | None, high: int | None, *, guaranteed: bool) -> Verdict:
    if not guaranteed:
        return "no guarantee"
    if low is None or high is None:
        return "not tested"
    if num_alarms > high:
        return "more than promised"
    return "fewer than promised" if num_alarms < low else "consistent"
