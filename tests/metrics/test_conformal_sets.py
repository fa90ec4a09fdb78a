"""Type sets hold the true type at the stated rate, by hand and in simulation."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from velm_train.metrics.answer_table import AnswerVocabulary, make_answer_table
from velm_train.metrics.conformal_sets import (
    calibrate_sets,
    conformal_scores,
    conformal_threshold,
    option_sets,
    rows_needed,
    set_scores,
)
from velm_train.metrics.intervals import stratified_weights

TYPES = ("bent", "cut", "rust", "dent")
VOCABULARY = AnswerVocabulary(
    label_sets={"nut": TYPES, "tile": TYPES},
    answers={name: {kind: f"a {kind}" for kind in TYPES} for name in ("nut", "tile")},
    unknown_types={},
)


def table_of(row, entries):
    """Entries of (category, true type, probabilities by type)."""
    rows = []
    for i, (category, gt, shares) in enumerate(entries):
        options = {f"a {kind}": math.log(share) for kind, share in zip(TYPES, shares, strict=True)}
        pred = TYPES[int(np.argmax(shares))]
        rows.append(row(f"{i:05d}", gt, pred, category=category, options=options, flagged=True))
    return make_answer_table(rows, vocabulary=VOCABULARY)


def logs(*shares):
    return np.log(np.array([shares]))


def fresh(template, rng, *, sharpness=1.5, overconfident=2.5):
    """The template with new truths and likelihoods of a model that is too sure of itself; no rows are made."""
    logits = rng.normal(size=(len(template), len(TYPES))) * sharpness
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truths = (rng.random((len(template), 1)) > shares.cumsum(axis=1)).sum(axis=1)
    return replace(template, log_likelihoods=overconfident * logits, gold=np.minimum(truths, len(TYPES) - 1))


def drawn(row, rng, num, *, category="nut", sharpness=1.5, overconfident=2.5):
    """Rows of a model that is too sure of itself."""
    logits = rng.normal(size=(num, len(TYPES))) * sharpness
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    said = np.exp(overconfident * logits) / np.exp(overconfident * logits).sum(axis=1, keepdims=True)
    return [
        (category, TYPES[rng.choice(len(TYPES), p=truth)], tuple(np.maximum(stated, 1e-300)))
        for truth, stated in zip(shares, said, strict=True)
    ]


def test_threshold_is_the_ceiling_rank():
    scores = np.arange(1.0, 20.0)  # 19 scores: rank ceil(20 * 0.9) = 18
    assert conformal_threshold(scores, coverage=0.9) == 18.0
    assert conformal_threshold(scores[:9], coverage=0.9) == 9.0
    assert conformal_threshold(scores[:8], coverage=0.9) is None


@pytest.mark.parametrize(("coverage", "needed"), [(0.9, 9), (0.8, 4), (0.95, 19), (0.5, 1)])
def test_fewest_rows_are_those_with_a_finite_threshold(coverage, needed):
    assert rows_needed(coverage) == needed
    assert conformal_threshold(np.zeros(needed), coverage=coverage) is not None
    assert conformal_threshold(np.zeros(needed - 1), coverage=coverage) is None


def test_lac_scores_are_negative_log_probabilities():
    assert conformal_scores(logs(0.5, 0.25, 0.25), method="lac")[0] == pytest.approx(-np.log([0.5, 0.25, 0.25]))


def test_aps_scores_rank_by_the_probability_of_what_is_less_likely():
    scores = conformal_scores(logs(0.2, 0.5, 0.3), method="aps")[0]
    # less likely than 0.5: 0.5; than 0.3: 0.2; than 0.2: nothing
    assert scores[:1] == pytest.approx([math.inf])
    assert scores[1:] == pytest.approx([-math.log(0.5), -math.log(0.2)])


def test_raps_adds_a_penalty_from_the_third_rank_on():
    scores = conformal_scores(logs(0.4, 0.3, 0.2, 0.1), method="raps")[0]
    assert scores == pytest.approx([0.4, 0.7, 0.9 + 0.1, 1.0 + 0.2])


def test_options_that_were_not_offered_are_in_no_set(row):
    table = table_of(row, [("nut", "cut", (0.1, 0.7, 0.1, 0.1))] * 20)
    wide = np.full((20, 6), -np.inf)
    wide[:, :4] = table.log_likelihoods
    for method in ("lac", "aps", "raps"):
        assert np.isinf(conformal_scores(wide, method=method)[:, 4:]).all()


def test_likeliest_option_is_always_in_the_set(row):
    sure = [("nut", "cut", (0.01, 0.97, 0.01, 0.01))] * 30
    policy = calibrate_sets(table_of(row, sure), method="lac", coverage=0.8)
    unsure = table_of(row, [("nut", "cut", (0.26, 0.25, 0.25, 0.24))])
    assert option_sets(unsure, policy).tolist() == [[True, False, False, False]]


@pytest.mark.parametrize("method", ["lac", "aps", "raps"])
@pytest.mark.parametrize(("num_calibration", "coverage"), [(20, 0.8), (40, 0.9), (150, 0.9), (150, 0.7)])
def test_sets_reach_their_coverage_in_simulation(row, method, num_calibration, coverage):
    """Coverage of one test row over fresh calibration sets is binomial with at least the stated rate."""
    rng = np.random.default_rng(num_calibration)
    any_row = ("nut", "cut", (0.1, 0.7, 0.1, 0.1))
    calibration, tested = (table_of(row, [any_row] * num) for num in (num_calibration, 25))
    held = total = 0
    for _ in range(60):
        policy = calibrate_sets(fresh(calibration, rng), method=method, coverage=coverage)
        test = fresh(tested, rng)
        inside = option_sets(test, policy)
        held += int(inside[np.arange(25), test.gold].sum())
        total += 25
    # rows that share a calibration set are not independent: the Beta spread of 60 sets widens the band
    spread = math.sqrt(coverage * (1 - coverage) * (1 / total + 1 / (60 * (num_calibration + 2))))
    assert held / total >= coverage - stats.norm.ppf(0.999) * spread
    if method == "lac":
        assert held / total <= coverage + 1 / (num_calibration + 1) + stats.norm.ppf(0.999) * spread


def test_a_threshold_for_each_category_covers_the_hard_one_too(row):
    rng = np.random.default_rng(7)
    held = {"nut": 0, "tile": 0}
    for _ in range(10):
        calibration = drawn(row, rng, 40, sharpness=4.0) + drawn(row, rng, 40, category="tile", sharpness=0.3)
        policy = calibrate_sets(table_of(row, calibration), method="lac", coverage=0.8)
        assert [group.categories for group in policy.groups] == [("nut",), ("tile",)]
        for category, sharpness in (("nut", 4.0), ("tile", 0.3)):
            test = table_of(row, drawn(row, rng, 40, category=category, sharpness=sharpness))
            held[category] += int(option_sets(test, policy)[np.arange(40), test.gold].sum())
    for category, count in held.items():
        assert count / 400 == pytest.approx(0.8 + 0.5 / 41, abs=0.09), category


def test_few_rows_of_a_category_are_pooled_and_said_so(row):
    rng = np.random.default_rng(1)
    policy = calibrate_sets(
        table_of(row, drawn(row, rng, 30) + drawn(row, rng, 3, category="tile")), method="lac", coverage=0.8
    )
    assert [group.categories for group in policy.groups] == [("nut", "tile")]
    assert "all categories share one threshold" in policy.note
    assert policy.groups[0].num_rows == 33


def test_too_few_rows_make_no_sets(row):
    table = table_of(row, drawn(row, np.random.default_rng(1), 8))
    assert calibrate_sets(table, method="lac", coverage=0.9) is None


def test_scores_count_what_is_promised_apart_from_what_is_not(row):
    calibration = table_of(row, [("nut", "cut", (0.1, 0.7, 0.1, 0.1))] * 20)
    policy = calibrate_sets(calibration, method="lac", coverage=0.9)
    test = table_of(
        row,
        [
            ("nut", "cut", (0.1, 0.7, 0.1, 0.1)),
            ("nut", "bent", (0.1, 0.7, 0.1, 0.1)),
            ("tile", "cut", (0.1, 0.7, 0.1, 0.1)),
        ],
    )
    scores = set_scores(test, policy, stratified_weights(test.base.strata, num_bootstrap=50, seed=0))
    assert (scores.coverage.k, scores.coverage.n) == (1, 2)
    assert (scores.coverage_elsewhere.k, scores.coverage_elsewhere.n) == (1, 1)
    assert scores.mean_size.value == 1.0
    assert scores.false_alarms_with_no_defect.value is None
