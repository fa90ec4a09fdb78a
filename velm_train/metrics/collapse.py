"""Answers go in; an alarm comes out if they fell onto few types, or are no better than answers without a picture."""

from collections import Counter
from dataclasses import replace

import numpy as np

from velm_train.core.answer_scores import ImageBlindCheck
from velm_train.core.scores import CollapseCheck, PairedDifference, Score
from velm_train.metrics.table import NONE_OF_THESE_INDEX, NORMAL_INDEX, UNPARSED_INDEX, PredictionTable

MIN_DEFECTS = 10
"""Fewer flagged defects than this give no verdict."""

MIN_GT_ENTROPY_FRACTION = 0.7
"""Below this the truth itself is lopsided, and lopsided answers are no alarm."""

MIN_PRED_ENTROPY_FRACTION = 0.5
"""Answers with less entropy than this, as a fraction of the most the types allow, raise the alarm."""

MAX_TOP_SHARE = 0.8
"""One answer with more than this share raises the alarm."""

_SPECIAL_ANSWERS = {NORMAL_INDEX: "no defect", NONE_OF_THESE_INDEX: "none of these", UNPARSED_INDEX: "unparsed"}


def collapse_check(table: PredictionTable) -> CollapseCheck:
    """Returns the verdict on one category.

    Args:
        table: images of one category; only flagged defects are read.
    """
    asked = table.defect & table.flagged
    gt_counts = Counter(table.gt_type[asked].tolist())
    num_types = len(gt_counts)
    num_asked = int(asked.sum())
    if num_asked < MIN_DEFECTS or num_types < 2:
        return _no_verdict(f"needs {MIN_DEFECTS} flagged defects of 2 types, has {num_asked} of {num_types}")
    pred_counts = Counter(table.pred_type[asked].tolist())
    gt_entropy = entropy_fraction(list(gt_counts.values()), num_types=num_types)
    pred_entropy = entropy_fraction(list(pred_counts.values()), num_types=num_types)
    top_index, top_count = max(pred_counts.items(), key=lambda item: (item[1], item[0]))
    top_answer = _SPECIAL_ANSWERS[top_index] if top_index < 0 else table.types[top_index].defect_type
    top_share = top_count / num_asked
    balanced = gt_entropy >= MIN_GT_ENTROPY_FRACTION
    alarm = balanced and (pred_entropy < MIN_PRED_ENTROPY_FRACTION or top_share > MAX_TOP_SHARE)
    note = f"{top_share:.0%} of the answers are {top_answer!r}" if alarm else ""
    return CollapseCheck(
        alarm=alarm,
        gt_entropy_fraction=gt_entropy,
        pred_entropy_fraction=pred_entropy,
        top_answer=top_answer,
        top_share=top_share,
        note=note if balanced else "true types are lopsided themselves",
    )


def combined_check(checks: dict[str, CollapseCheck]) -> CollapseCheck:
    """Returns one verdict over categories: an alarm anywhere is an alarm, and the note names where.

    Args:
        checks: category -> its verdict.
    """
    judged = {name: check for name, check in checks.items() if check.alarm is not None}
    if not judged:
        return _no_verdict("no category has enough flagged defects")
    worst_name = max(judged, key=lambda name: (bool(judged[name].alarm), judged[name].top_share or 0.0))
    worst = judged[worst_name]
    alarmed = [f"{name}: {check.note}" for name, check in judged.items() if check.alarm]
    return CollapseCheck(
        alarm=bool(alarmed),
        gt_entropy_fraction=worst.gt_entropy_fraction,
        pred_entropy_fraction=worst.pred_entropy_fraction,
        top_answer=worst.top_answer,
        top_share=worst.top_share,
        note="; ".join(alarmed) if alarmed else f"most one-sided category: {worst_name}",
    )


def entropy_fraction(counts: list[int], *, num_types: int) -> float:
    """Returns the entropy of the counts over log(num_types), capped at 1.

    Args:
        counts: positive counts.
        num_types: number of types the entropy is compared with, at least 2.
    """
    shares = np.array(counts, dtype=np.float64) / sum(counts)
    entropy = -(shares * np.log(shares)).sum()
    return min(1.0, max(0.0, float(entropy / np.log(num_types))))


def image_blind_check(blind_versus_run: PairedDifference, *, num_flagged_defects: int) -> ImageBlindCheck:
    """Returns whether the run is shown to be better than the same model without a picture.

    It catches what variety of answers does not: types drawn at random, or told by the category's name alone. The alarm
    also rings where the test is too small to tell, for then nothing shows that the pictures matter.

    Args:
        blind_versus_run: end-to-end balanced recall of the image-blind rows minus the run's own, behind the same gate.
        num_flagged_defects: defects that both were asked about.
    """
    other = blind_versus_run.difference
    if num_flagged_defects < MIN_DEFECTS or other.value is None:
        reason = other.note if other.value is None else ""
        note = reason or f"needs {MIN_DEFECTS} flagged defects, has {num_flagged_defects}"
        return ImageBlindCheck(alarm=None, gap=_negated(other), note=note)
    gap = _negated(other)
    assert gap.value is not None
    least = gap.value if gap.low is None else gap.low
    if least > 0:
        return ImageBlindCheck(alarm=False, gap=gap, note="")
    ends = "" if gap.low is None or gap.high is None else f", 95 % interval {_signed(gap.low)} to {_signed(gap.high)}"
    note = f"the image instead of a grey picture is worth {_signed(gap.value)} points{ends}"
    return ImageBlindCheck(alarm=True, gap=gap, note=note)


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "\N{MINUS SIGN}")


def _negated(score: Score) -> Score:
    """Returns the difference the other way round."""
    if score.value is None:
        return score
    low = None if score.high is None else 0.0 - score.high
    high = None if score.low is None else 0.0 - score.low
    return replace(score, value=0.0 - score.value, low=low, high=high)


def _no_verdict(note: str) -> CollapseCheck:
    return CollapseCheck(
        alarm=None, gt_entropy_fraction=None, pred_entropy_fraction=None, top_answer="", top_share=None, note=note
    )
