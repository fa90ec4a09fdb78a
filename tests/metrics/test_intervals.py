"""Resampling keeps strata, intervals agree with published tables, paired tests refuse unequal images."""

import time
from math import comb

import numpy as np
import pytest
from scipy import stats
from scipy.stats import binomtest

from velm_train.core.errors import DataError
from velm_train.metrics.intervals import (
    bootstrap_score,
    clopper_pearson,
    mcnemar_p_value,
    paired_difference,
    proportion,
    stratified_weights,
)
from velm_train.metrics.scoreboard import score_rows
from velm_train.metrics.system import end_to_end_values
from velm_train.metrics.table import make_table

LABELS = {"nut": ("bent", "cut", "rust"), "tile": ("oil", "crack")}


def test_every_resample_keeps_the_size_of_every_stratum():
    strata = np.array([0, 0, 0, 1, 2, 2])
    weights = stratified_weights(strata, num_bootstrap=200, seed=0)
    for stratum, size in ((0, 3), (1, 1), (2, 2)):
        assert (weights[:, strata == stratum].sum(axis=1) == size).all()
    assert (weights.mean(axis=0)[:3] - 1 < 0.2).all()
    assert weights.std() > 0.3


@pytest.mark.parametrize("size", [2, 4, 30])
def test_spread_of_a_mean_is_the_unbiased_one_however_small_the_strata(size):
    values = np.random.default_rng(size).normal(size=(6, size))
    strata = np.repeat(np.arange(6), size)
    weights = stratified_weights(strata, num_bootstrap=20_000, seed=0)
    resampled = weights @ values.ravel() / values.size
    expected = (values.var(axis=1, ddof=1) / size).sum() / 6**2
    assert resampled.mean() == pytest.approx(values.mean(), abs=4 * np.sqrt(expected / 20_000))
    assert resampled.var() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(("num_types", "size"), [(40, 3), (96, 4)])
def test_interval_of_balanced_recall_covers_at_its_nominal_rate(num_types, size):
    rng = np.random.default_rng(num_types)
    truth = rng.beta(3, 1, size=num_types)
    strata = np.repeat(np.arange(num_types), size)
    weights = stratified_weights(strata, num_bootstrap=300, seed=0)
    covered = 0
    for _ in range(400):
        hits = rng.random(len(strata)) < np.repeat(truth, size)
        score = bootstrap_score(
            lambda w, hits=hits: (w * hits).reshape(len(w), num_types, size).mean(axis=2).mean(axis=1),
            weights,
            n=len(strata),
        )
        covered += score.low <= truth.mean() <= score.high
    assert stats.binom.ppf(0.001, 400, 0.95) <= covered <= stats.binom.ppf(0.999, 400, 0.95)


def test_same_seed_same_resamples_and_zero_is_a_seed():
    strata = np.zeros(20, dtype=np.int64)
    first, again, other = (stratified_weights(strata, num_bootstrap=5, seed=s) for s in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_no_resamples_are_refused():
    with pytest.raises(DataError, match="num_bootstrap"):
        stratified_weights(np.zeros(3, dtype=np.int64), num_bootstrap=0, seed=0)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (1, 10), (4, 455), (10, 10)])
def test_clopper_pearson_equals_scipys_exact_interval(k, n):
    expected = binomtest(k, n).proportion_ci(0.95, method="exact")
    assert clopper_pearson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_zero_of_ten_has_the_rule_of_three_like_upper_end():
    assert clopper_pearson(0, 10)[1] == pytest.approx(1 - 0.025 ** (1 / 10))


def test_proportion_of_nothing_is_none_with_the_reason():
    score = proportion(np.zeros(0, dtype=np.bool_), if_empty="no defective images")
    assert (score.value, score.note, score.n) == (None, "no defective images", 0)


def test_bootstrap_interval_of_a_mean_agrees_with_the_normal_approximation():
    values = np.random.default_rng(0).normal(size=400)
    weights = stratified_weights(np.zeros(400, dtype=np.int64), num_bootstrap=4000, seed=0)
    score = bootstrap_score(lambda w: w @ values / w.sum(axis=1), weights, n=400)
    half_width = 1.96 * values.std() / 20
    assert score.low == pytest.approx(values.mean() - half_width, abs=0.01)
    assert score.high == pytest.approx(values.mean() + half_width, abs=0.01)


def test_all_right_falls_back_to_the_exact_interval_and_says_so():
    weights = stratified_weights(np.zeros(12, dtype=np.int64), num_bootstrap=20, seed=0)
    score = bootstrap_score(lambda w: w.sum(axis=1) / 12, weights, n=12, hits=np.ones(12, dtype=np.bool_))
    assert (score.value, score.high, score.interval) == (1.0, 1.0, "clopper-pearson")
    assert score.low == pytest.approx(0.025 ** (1 / 12))
    assert "exact interval" in score.note


def test_one_image_a_type_gives_the_exact_interval_of_the_pooled_count():
    hits = np.array([True, True, False, True, False, True])
    weights = stratified_weights(np.arange(6), num_bootstrap=20, seed=0)
    score = bootstrap_score(lambda w: w @ hits / 6, weights, n=6, hits=hits)
    expected = binomtest(4, 6).proportion_ci(0.95, method="exact")
    assert (score.low, score.high) == pytest.approx((expected.low, expected.high))
    assert score.interval == "clopper-pearson"


def test_no_interval_where_the_pooled_count_says_something_else():
    hits = np.array([True] + [False] * 30)
    weights = stratified_weights(np.arange(31), num_bootstrap=20, seed=0)
    score = bootstrap_score(lambda w: (w[:, 0] * hits[0] + w[:, 1] * hits[1]) / 2, weights, n=31, hits=hits)
    assert (score.value, score.low, score.interval) == (0.5, None, "none")


@pytest.mark.parametrize(("first", "other"), [(0, 0), (3, 3), (1, 9), (12, 2)])
def test_mcnemar_equals_the_written_out_binomial_sum(first, other):
    total = first + other
    tail = sum(comb(total, i) for i in range(min(first, other) + 1)) / 2**total
    assert mcnemar_p_value(first, other) == pytest.approx(min(1.0, 2 * tail))


def test_a_system_compared_with_itself_differs_by_nothing(random_rows):
    table = make_table(random_rows(0), label_sets=LABELS)
    result = paired_difference(table, table, metric=end_to_end_values, num_bootstrap=100, seed=0)
    assert (result.difference.value, result.num_only_first_right, result.mcnemar_p_value) == (0.0, 0, 1.0)


def test_difference_is_other_minus_first(row):
    first = [row(f"{i}", "cut", "bent") for i in range(4)] + [row("g", "good", "good")]
    other = [row(f"{i}", "cut", "cut" if i < 3 else "bent") for i in range(4)] + [row("g", "good", "good")]
    tables = [make_table(rows, label_sets=LABELS) for rows in (first, other)]
    result = paired_difference(*tables, metric=end_to_end_values, num_bootstrap=500, seed=0)
    assert result.difference.value == pytest.approx(0.75)
    assert (result.num_only_first_right, result.num_only_other_right) == (0, 3)
    assert result.mcnemar_p_value == pytest.approx(0.25)


def test_pairing_is_narrower_than_resampling_apart(random_rows):
    rows = random_rows(0)
    table = make_table(rows, label_sets=LABELS)
    flipped = list(rows)
    flipped[0] = type(rows[0])(**{**rows[0].to_json(), "pred_defect_type": None, "region_boxes_xyxy": ()})
    other = make_table(flipped, label_sets=LABELS)
    result = paired_difference(table, other, metric=end_to_end_values, num_bootstrap=300, seed=0)
    alone = bootstrap_score(
        lambda w: end_to_end_values(table, w), stratified_weights(table.strata, num_bootstrap=300, seed=0), n=len(table)
    )
    paired_width = (result.difference.high or 0) - (result.difference.low or 0)
    assert paired_width < 0.3 * (alone.high - alone.low)


def test_runs_on_other_images_are_refused(row):
    tables = [make_table([row(name, "cut", "cut")], label_sets=LABELS) for name in ("a", "b")]
    with pytest.raises(DataError, match="2 images"):
        paired_difference(*tables, metric=end_to_end_values, num_bootstrap=10, seed=0)


def test_runs_with_other_labels_are_refused(row):
    tables = [make_table([row("a", gt, "cut")], label_sets=LABELS) for gt in ("cut", "bent")]
    with pytest.raises(DataError, match="different true types"):
        paired_difference(*tables, metric=end_to_end_values, num_bootstrap=10, seed=0)


def test_thousand_resamples_of_five_hundred_rows_take_seconds_not_minutes(random_rows):
    rows = random_rows(0, num_images=500)
    started = time.process_time()
    score_rows(rows, label_sets=LABELS, num_bootstrap=1000, seed=0)
    assert time.process_time() - started < 10
