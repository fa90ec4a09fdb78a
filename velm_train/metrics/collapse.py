"""Answers on flagged defects go in; an alarm comes out if they fell onto few types although the truth did not."""

from collections import Counter

import numpy as np

from velm_train.core.scores import CollapseCheck
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


def _no_verdict(note: str) -> CollapseCheck:
    return CollapseCheck(
        alarm=None, gt_entropy_fraction=None, pred_entropy_fraction=None, top_answer="", top_share=None, note=note
    )
