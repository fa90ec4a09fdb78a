"""A table of predictions goes in; where each image ended, and how many at which step, comes out."""

import numpy as np
from jaxtyping import Bool

from velm_train.core.report_facts import ErrorSources, Outcome
from velm_train.metrics.table import NONE_OF_THESE_INDEX, NORMAL_INDEX, UNPARSED_INDEX, PredictionTable


def error_sources(table: PredictionTable) -> tuple[ErrorSources, ...]:
    """Returns one entry a category, in the order of the table; every image is counted once."""
    return tuple(
        _of_category(table.select(table.category == index), name) for index, name in enumerate(table.categories)
    )


def outcomes_of(table: PredictionTable) -> dict[str, Outcome]:
    """Returns image_id -> where it ended."""
    rows = zip(table.image_ids, table.defect.tolist(), table.correct.tolist(), table.pred_type.tolist(), strict=True)
    return {
        image_id: _outcome(defect=defect, correct=correct, answer=answer) for image_id, defect, correct, answer in rows
    }


def _outcome(*, defect: bool, correct: bool, answer: int) -> Outcome:
    if not defect:
        return "good passed" if correct else "false alarm"
    if correct:
        return "named right"
    if answer == NORMAL_INDEX:
        return "missed"
    return "wrong name" if answer >= 0 else "no name"


def _of_category(table: PredictionTable, name: str) -> ErrorSources:
    defect, answer = table.defect, table.pred_type
    wrong, asked = defect & ~table.correct, table.flagged
    normal_asked = ~defect & asked
    named = answer >= 0
    return ErrorSources(
        category=name,
        right=_count(defect & table.correct),
        gate_miss=_count(wrong & ~asked),
        no_defect_answered=_count(wrong & asked & (answer == NORMAL_INDEX)),
        wrong_type=_count(wrong & asked & named),
        none_of_these=_count(wrong & asked & (answer == NONE_OF_THESE_INDEX)),
        unparsed=_count(wrong & asked & (answer == UNPARSED_INDEX)),
        passed=_count(~defect & ~asked),
        cleared=_count(normal_asked & (answer == NORMAL_INDEX)),
        false_alarm_named=_count(normal_asked & named),
        false_alarm_unnamed=_count(normal_asked & ~named & (answer != NORMAL_INDEX)),
    )


def _count(chosen: Bool[np.ndarray, " n"]) -> int:
    return int(np.count_nonzero(chosen))
