"""Calibration answers go in; thresholds for sets of types that hold the true one at a stated rate come out.

Split conformal prediction (Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005, section 4.1):
with n exchangeable calibration rows the set of options whose score is at most the ceil((n + 1) c)-th smallest score
of a right option holds the right option with probability c or more. Scores, from uncalibrated likelihoods so that no
figure fitted on the same rows enters:

lac   -log p (Sadinle, Lei and Wasserman, JASA 2019): the smallest sets on average
aps   probability of everything at least as likely (Romano, Sesia and Candes, NeurIPS 2020), without the random part,
      so larger than needed but the same each time
raps  the same plus 0.1 for each rank beyond the second (Angelopoulos et al., ICLR 2021)

The likeliest option is always added: a set is never empty, and coverage only rises.
"""

import math
from collections import Counter

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import logsumexp

from velm_train.core.answer_scores import SetGroup, SetMethod, SetPolicy, SetScores
from velm_train.metrics.answer_table import NO_GOLD, AnswerTable
from velm_train.metrics.intervals import Weights, bootstrap_score, proportion, weighted_mean

RANK_PENALTY = 0.1
FREE_RANKS = 2
ROWS_OF_OWN = 2
"""A category has its own threshold from this multiple of the fewest rows on: with the fewest it is their maximum."""


def rows_needed(coverage: float) -> int:
    """Returns the fewest calibration rows for which a coverage has a finite threshold."""
    return math.ceil(coverage / (1 - coverage) - 1e-9)


def conformal_threshold(scores: Float[np.ndarray, " n"], *, coverage: float) -> float | None:
    """Returns the ceil((n + 1) coverage)-th smallest score, or None if there are too few."""
    rank = math.ceil((len(scores) + 1) * coverage - 1e-9)
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else None


def conformal_scores(log_probabilities: Float[np.ndarray, "n W"], *, method: SetMethod) -> Float[np.ndarray, "n W"]:
    """Returns each option's score, low for likely ones, +inf where there is no option.

    "aps" is the negative logarithm of what is less likely: the same order as the probability of what is at least as
    likely, which would round to 1.
    """
    if method == "lac":
        return np.asarray(-log_probabilities)
    order = np.argsort(-log_probabilities, axis=1, kind="stable")
    ranked = np.take_along_axis(log_probabilities, order, axis=1)
    offered = np.isfinite(ranked)
    if method == "aps":
        scores = np.full(ranked.shape, np.inf)
        for rank in range(ranked.shape[1] - 1):
            rest = ranked[:, rank + 1 :]
            some = np.isfinite(rest[:, 0])
            scores[some, rank] = -logsumexp(rest[some], axis=1)
    else:
        beyond = np.maximum(0, np.arange(1, ranked.shape[1] + 1) - FREE_RANKS)
        scores = np.cumsum(np.exp(ranked), axis=1) + RANK_PENALTY * beyond
    scores = np.where(offered, scores, np.inf)
    unranked = np.empty_like(scores)
    np.put_along_axis(unranked, order, scores, axis=1)
    return unranked


def calibrate_sets(table: AnswerTable, *, method: SetMethod, coverage: float) -> SetPolicy | None:
    """Returns thresholds, one a category where there are enough rows (Mondrian), else pooled; None if too few for any.

    Categories with too few rows share the threshold of their own rows together; if these are too few as well, all
    categories are pooled. How many rows a category has says nothing about its scores, so the choice costs nothing.

    Args:
        table: calibration rows, one a physical part; those whose right option has a likelihood count.
        method: the score.
        coverage: share to hold, above 0, below 1.
    """
    rows = table.select(table.asked & (table.gold != NO_GOLD))
    scores = _gold_scores(rows, method=method)
    names = np.array(rows.category_names, dtype=object)
    counts = Counter(rows.category_names)
    pooled = conformal_threshold(scores, coverage=coverage)
    if pooled is None:
        return None
    needed = rows_needed(coverage)
    own = sorted(name for name, count in counts.items() if count >= ROWS_OF_OWN * needed)
    rest = sorted(set(counts) - set(own))
    num_rest = sum(counts[name] for name in rest)
    if rest and num_rest < needed:
        own, rest, num_rest = [], sorted(counts), len(rows)
    parts = [((name,), counts[name]) for name in own] + ([(tuple(rest), num_rest)] if rest else [])
    groups = []
    for members, num_rows in parts:
        threshold = conformal_threshold(scores[np.isin(names, members)], coverage=coverage)
        assert threshold is not None, (members, num_rows)
        groups.append(SetGroup(categories=members, threshold=threshold, num_rows=num_rows))
    return SetPolicy(
        method=method,
        coverage=coverage,
        groups=tuple(groups),
        pooled_threshold=pooled,
        note=_pooling_note(rest, own=own, fewest=ROWS_OF_OWN * needed),
    )


def _pooling_note(rest: list[str], *, own: list[str], fewest: int) -> str:
    if not rest or len(rest) == 1:
        return "a threshold of its own for each category"
    which = "all categories" if not own else f"{len(rest)} categories"
    return (
        f"{which} share one threshold: the coverage holds on average over them, not in each; a category needs "
        f"{fewest} calibration parts for one of its own"
    )


def _gold_scores(table: AnswerTable, *, method: SetMethod) -> Float[np.ndarray, " n"]:
    scores = conformal_scores(table.log_probabilities(), method=method)
    return np.asarray(scores[np.arange(len(table)), table.gold])


def option_sets(table: AnswerTable, policy: SetPolicy) -> Bool[np.ndarray, "n W"]:
    """Returns which options are in each image's set; none on images that were not asked about."""
    log_probabilities = table.log_probabilities()
    scores = conformal_scores(log_probabilities, method=policy.method)
    thresholds = np.array([policy.threshold_of(name) for name in table.category_names])
    inside = (scores <= thresholds[:, None]) & np.isfinite(log_probabilities)
    asked = table.asked
    inside[asked, log_probabilities[asked].argmax(axis=1)] = True
    return np.asarray(inside)


def set_scores(table: AnswerTable, policy: SetPolicy, weights: Weights) -> SetScores:
    """Returns what the sets hold on test rows.

    Args:
        table: test rows.
        policy: from calibration rows.
        weights: bootstrap resamples of the test rows.
    """
    inside = option_sets(table, policy)
    holds = np.zeros(len(table), dtype=np.bool_)
    offered = table.asked & (table.gold != NO_GOLD)
    holds[offered] = inside[offered, table.gold[offered]]
    sizes = inside.sum(axis=1).astype(np.float64)
    defects = table.asked & table.base.defect & table.taught
    promised = np.isin(np.array(table.category_names, dtype=object), sorted(policy.promised))
    counted, elsewhere = defects & promised, defects & ~promised
    none = "no flagged defect of a category and type that calibration knew"
    return SetScores(
        coverage=proportion(holds[counted], if_empty=none),
        mean_size=bootstrap_score(lambda w: weighted_mean(sizes, w * counted), weights, n=int(counted.sum())),
        single=proportion(sizes[counted] == 1, if_empty=none),
        coverage_elsewhere=proportion(holds[elsewhere], if_empty="calibration knew every category"),
        false_alarms_with_no_defect=proportion(
            holds[table.asked & ~table.base.defect], if_empty="no good image was flagged"
        ),
    )
