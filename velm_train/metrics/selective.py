"""Calibration answers and an error bound go in; a threshold above which the bound holds comes out, or why none does.

Learn then Test (Angelopoulos, Bates, Candes, Jordan and Lei, arXiv 2110.01052) with exact binomial p-values. The
thresholds tried keep the surest 20, 40, 60, 80 and 100 % of the named calibration answers. Given such a threshold the
answers above it are independent draws of all answers above it, so the number of errors among them is binomial and
P(Bin(n, max_error) <= errors) is a p-value of "more than max_error of them are wrong", whatever the confidences are.
Tested at (1 - confidence) / 5 each (Bonferroni), every threshold that passes holds at once with the confidence asked
for; the one that keeps most is taken. Confidence is that of the model itself: a temperature fitted on the same rows
would have seen their errors.
"""

import math

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from velm_train.core.answer_scores import SortPolicy, SortScores
from velm_train.metrics.answer_table import AnswerTable
from velm_train.metrics.intervals import proportion

KEPT_SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)


def error_p_value(num_errors: int, num_answers: int, *, max_error: float) -> float:
    """Returns the exact p-value of "the error rate exceeds max_error" for so many errors; 1 without answers."""
    return float(stats.binom.cdf(num_errors, num_answers, max_error)) if num_answers else 1.0


def answers_needed(*, max_error: float, level: float, error_rate: float = 0.0) -> int | None:
    """Returns the fewest answers that certify the bound if this share of them is wrong; None if no number would do.

    Args:
        max_error: the bound, above 0, below 1.
        level: of the test, above 0, below 1.
        error_rate: share of wrong answers, 0..1; their number is rounded down.
    """
    if error_rate >= max_error:
        return None

    def certifies(num: int) -> bool:
        return error_p_value(math.floor(error_rate * num + 1e-9), num, max_error=max_error) <= level

    high = max(1, math.ceil(math.log(level) / math.log1p(-max_error) - 1e-9))
    while not certifies(high):
        high *= 2
    low = high // 2 if error_rate > 0 else high - 1
    while high - low > 1:  # rounding makes this only nearly monotone; the result certifies in any case
        middle = (low + high) // 2
        low, high = (low, middle) if certifies(middle) else (middle, high)
    return high


def certify_sorting(table: AnswerTable, *, max_error: float, confidence: float) -> SortPolicy:
    """Returns the threshold that keeps most answers among those for which the bound holds.

    Args:
        table: calibration rows, one a physical part; answers that name nothing are never acted on.
        max_error: largest error share among answers acted on, above 0, below 1.
        confidence: chance that the bound holds, above 0, below 1.
    """
    rows = table.select(table.named)
    odds, wrong = rows.log_odds(), ~rows.base.correct
    level = (1 - confidence) / len(KEPT_SHARES)
    best_error = 1.0
    for share in reversed(KEPT_SHARES):
        threshold = _threshold_keeping(odds, share)
        kept = np.ones(len(odds), dtype=np.bool_) if threshold is None else odds > threshold
        num_kept, num_errors = int(kept.sum()), int(wrong[kept].sum())
        if num_kept:
            best_error = min(best_error, num_errors / num_kept)
        if error_p_value(num_errors, num_kept, max_error=max_error) <= level:
            return SortPolicy(
                max_error=max_error,
                confidence=confidence,
                min_log_odds=threshold,
                all_kept=threshold is None,
                num_answers=len(rows),
                num_kept=num_kept,
                num_errors=num_errors,
                note="",
            )
    return SortPolicy(
        max_error=max_error,
        confidence=confidence,
        min_log_odds=None,
        all_kept=False,
        num_answers=len(rows),
        num_kept=0,
        num_errors=int(wrong.sum()),
        note=_why_none(len(rows), best_error=best_error, max_error=max_error, level=level),
    )


def _threshold_keeping(odds: Float[np.ndarray, " n"], share: float) -> float | None:
    """Returns the log-odds that the surest share of the answers exceeds, None for all of them.

    It is itself one of the answers' log-odds, which is what makes those above it independent draws. Infinite ones,
    of lists with one option, are never exceeded.
    """
    num_kept = math.floor(share * len(odds) + 1e-9)
    return None if num_kept >= len(odds) else float(np.sort(odds)[::-1][num_kept])


def _why_none(num_answers: int, *, best_error: float, max_error: float, level: float) -> str:
    fewest = answers_needed(max_error=max_error, level=level)
    assert fewest is not None
    if num_answers < fewest:
        return f"needs {fewest} calibration answers that name something, even if all are right, has {num_answers}"
    needed = answers_needed(max_error=max_error, level=level, error_rate=best_error)
    share = f"{best_error:.1%} are wrong"
    if needed is None:
        return f"no number of calibration answers would do: even of the surest of {num_answers}, {share}"
    return f"needs about {needed} calibration answers as sure as the surest, of which {share}; has {num_answers} in all"


def acted_on(table: AnswerTable, policy: SortPolicy) -> Bool[np.ndarray, " n"]:
    """Returns which images' answers are acted on without a person; none if no threshold is certified."""
    if policy.all_kept:
        return table.named
    if policy.min_log_odds is None:
        return np.zeros(len(table), dtype=np.bool_)
    return np.asarray(table.named & (table.log_odds() > policy.min_log_odds))


def sort_scores(table: AnswerTable, policy: SortPolicy, *, categories: frozenset[str]) -> SortScores:
    """Returns what acting on these answers brings on test rows.

    Args:
        table: test rows.
        policy: from calibration rows.
        categories: those of the calibration rows.
    """
    kept = acted_on(table, policy)
    known = np.isin(np.array(table.category_names, dtype=object), sorted(categories))
    defects = table.asked & table.base.defect & table.taught & known
    alarms = table.asked & ~table.base.defect
    if_none = "no answer is acted on" if policy.certified else "no threshold is certified"
    return SortScores(
        error=proportion(~table.base.correct[defects & kept], if_empty=if_none),
        kept=proportion(kept[defects], if_empty="no flagged defect of a category and type that calibration knew"),
        false_alarms_given_a_type=proportion(
            kept[alarms] & ~table.base.correct[alarms], if_empty="no good image was flagged"
        ),
    )
