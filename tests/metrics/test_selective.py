"""A certified threshold keeps its promise in simulation; where none is certified, the reason is true."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from velm_train.metrics.answer_table import AnswerVocabulary, make_answer_table
from velm_train.metrics.selective import acted_on, answers_needed, certify_sorting, error_p_value, sort_scores

VOCABULARY = AnswerVocabulary(
    label_sets={"nut": ("bent", "cut")}, answers={"nut": {"bent": "bent", "cut": "cut"}}, unknown_types={}
)


def table_of(row, odds, right, **changes):
    rows = [
        row(f"{i:05d}", "cut" if hit else "bent", "cut", options={"cut": float(odd), "bent": 0.0}, **changes)
        for i, (odd, hit) in enumerate(zip(odds, right, strict=True))
    ]
    return make_answer_table(rows, vocabulary=VOCABULARY)


def test_p_value_is_the_binomial_tail():
    assert error_p_value(0, 10, max_error=0.1) == pytest.approx(0.9**10)
    assert error_p_value(1, 10, max_error=0.1) == pytest.approx(0.9**10 + 10 * 0.1 * 0.9**9)
    assert error_p_value(0, 0, max_error=0.1) == 1.0


def test_needed_answers_are_the_fewest_that_certify():
    needed = answers_needed(max_error=0.1, level=0.02)
    assert needed == math.ceil(math.log(0.02) / math.log(0.9))
    assert error_p_value(0, needed, max_error=0.1) <= 0.02 < error_p_value(0, needed - 1, max_error=0.1)
    with_errors = answers_needed(max_error=0.1, level=0.02, error_rate=0.05)
    assert error_p_value(math.floor(0.05 * with_errors), with_errors, max_error=0.1) <= 0.02
    assert with_errors > needed
    assert answers_needed(max_error=0.1, level=0.02, error_rate=0.1) is None


def test_all_answers_are_kept_if_all_are_right(row):
    policy = certify_sorting(table_of(row, np.linspace(0.1, 5, 60), [True] * 60), max_error=0.1, confidence=0.9)
    assert policy.all_kept
    assert (policy.num_kept, policy.num_errors, policy.min_log_odds) == (60, 0, None)


def test_sure_answers_are_kept_if_unsure_ones_are_wrong(row):
    odds = np.linspace(0.01, 5, 200)
    policy = certify_sorting(table_of(row, odds, odds > 2.5), max_error=0.1, confidence=0.9)
    assert policy.certified
    assert not policy.all_kept
    assert (policy.num_kept, policy.num_errors) == (80, 0)  # 120 would hold 20 errors
    assert policy.min_log_odds == pytest.approx(odds[119])
    kept = acted_on(table_of(row, odds, odds > 2.5), policy)
    assert kept.sum() == 80


def test_reason_for_none_names_the_number_needed(row):
    few = certify_sorting(table_of(row, [1.0] * 10, [True] * 10), max_error=0.1, confidence=0.9)
    assert not few.certified
    assert few.note == "needs 38 calibration answers that name something, even if all are right, has 10"
    wrong = certify_sorting(table_of(row, np.linspace(1, 2, 50), [False] * 50), max_error=0.1, confidence=0.9)
    assert wrong.note.startswith("no number of calibration answers would do")
    assert not acted_on(table_of(row, [9.0], [True]), wrong).any()


def test_answers_that_name_nothing_are_never_acted_on(row):
    table = table_of(row, np.linspace(0.1, 5, 60), [True] * 60)
    policy = certify_sorting(table, max_error=0.1, confidence=0.9)
    options = {"cut": 0.0, "bent": -9.0, "none of these": 5.0}
    unnamed = make_answer_table([row("a", "cut", None, options=options)], vocabulary=VOCABULARY)
    assert not acted_on(unnamed, policy).any()


@pytest.mark.parametrize("shape", ["rising", "flat at the bound", "falling"])
def test_bound_holds_at_least_as_often_as_promised(row, shape):
    """Over fresh calibration sets the true error rate above the chosen threshold exceeds the bound rarely enough.

    The error rate need not fall with confidence: "falling" makes the surest answers the worst.
    """
    max_error, confidence, num = 0.15, 0.8, 300
    template = table_of(row, np.zeros(num), [True] * num)
    bent, cut = 0, 1

    def fresh(u, right):
        """The same as `table_of`, without making rows."""
        return replace(
            template,
            base=replace(template.base, gt_type=np.where(right, cut, bent)),
            log_likelihoods=np.stack([u, np.zeros(num)], axis=1),
        )

    rng = np.random.default_rng(3)

    def error_rate(u):
        return {
            "rising": 0.4 * (1 - u),
            "flat at the bound": np.full_like(u, max_error + 0.001),
            "falling": np.where(u > 0.85, 0.25, 0.1),
        }[shape]

    grid = (np.arange(20000) + 0.5) / 20000
    broken = certified = 0
    for _ in range(250):
        u = rng.random(num)
        table = fresh(u, rng.random(num) >= error_rate(u))
        policy = certify_sorting(table, max_error=max_error, confidence=confidence)
        if policy.certified:
            certified += 1
            above = grid > (-1.0 if policy.min_log_odds is None else policy.min_log_odds)
            broken += error_rate(grid[above]).mean() > max_error
    assert broken <= stats.binom.ppf(0.999, 250, 1 - confidence)
    if shape == "rising":
        assert certified > 200


def test_test_scores_count_errors_among_what_is_kept(row):
    policy = certify_sorting(table_of(row, np.linspace(0.1, 5, 60), [True] * 60), max_error=0.1, confidence=0.9)
    rows = [
        row("a", "cut", "cut", options={"cut": 1.0, "bent": 0.0}),
        row("b", "bent", "cut", options={"cut": 1.0, "bent": 0.0}),
        row("c", "good", "cut", options={"cut": 1.0, "no defect": 0.0}),
        row("d", "cut", None, options={"cut": 1.0, "none of these": 2.0}),
        row("e", "cut", "good", flagged=False),
    ]
    scores = sort_scores(make_answer_table(rows, vocabulary=VOCABULARY), policy, categories=frozenset({"nut"}))
    assert (scores.error.k, scores.error.n) == (1, 2)
    assert (scores.kept.k, scores.kept.n) == (2, 3)
    assert (scores.false_alarms_given_a_type.k, scores.false_alarms_given_a_type.n) == (1, 1)
    elsewhere = sort_scores(make_answer_table(rows, vocabulary=VOCABULARY), policy, categories=frozenset())
    assert elsewhere.error.value is None
