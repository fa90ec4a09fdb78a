"""AUROC against scikit-learn and by hand; error rates by hand."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from velm_train.metrics.detection import _auroc_values, detection_scores, image_auroc
from velm_train.metrics.intervals import stratified_weights
from velm_train.metrics.table import make_table

LABELS = {"nut": ("bent", "cut", "rust"), "tile": ("oil", "crack")}


def table_and_weights(rows, *, num_bootstrap=50):
    table = make_table(rows, label_sets=LABELS)
    return table, stratified_weights(table.strata, num_bootstrap=num_bootstrap, seed=0)


def test_auroc_is_the_mean_over_categories_of_sklearns(random_rows):
    rows = random_rows(1)
    table, weights = table_and_weights(rows)
    expected = np.mean(
        [
            roc_auc_score(
                [r.gt_defect_type != "good" for r in rows if r.category == name],
                [r.anomaly_score for r in rows if r.category == name],
            )
            for name in ("nut", "tile")
        ]
    )
    score = image_auroc(table, weights)
    assert score.value == pytest.approx(expected, abs=1e-12)
    assert score.n == len(rows)
    assert score.low < score.value < score.high


def test_auroc_counts_ties_as_half(row):
    rows = [row("a", "good", "good", score=1.0), row("b", "cut", "cut", score=1.0), row("c", "cut", "cut", score=2.0)]
    table, weights = table_and_weights(rows)
    assert image_auroc(table, weights).value == pytest.approx(0.75)


def test_auroc_of_one_resample_equals_sklearn_with_sample_weights(random_rows):
    rows = [r for r in random_rows(2) if r.category == "nut"]
    table, _ = table_and_weights(rows)
    drawn = stratified_weights(table.strata, num_bootstrap=1, seed=3)
    expected = roc_auc_score(table.defect, table.anomaly_score, sample_weight=drawn[0])
    assert _auroc_values(table, drawn, category=0)[0] == pytest.approx(expected, abs=1e-12)


def test_auroc_of_one_class_is_none_with_a_reason(row):
    table, weights = table_and_weights([row("a", "cut", "cut"), row("b", "bent", "cut")])
    score = image_auroc(table, weights)
    assert score.value is None
    assert "normal and defective" in score.note


def test_category_of_one_class_is_left_out_by_name(row):
    rows = [row("a", "cut", "cut", score=2.0), row("b", "good", "good"), row("c", "oil", "oil", category="tile")]
    table, weights = table_and_weights(rows)
    score = image_auroc(table, weights)
    assert (score.value, score.n) == (1.0, 2)
    assert "tile" in score.note


def test_perfect_ranking_shows_no_interval_of_width_zero(row):
    rows = [row(f"d{i}", "cut", "cut", score=2.0 + i) for i in range(5)] + [
        row(f"g{i}", "good", "good") for i in range(5)
    ]
    table, weights = table_and_weights(rows)
    score = image_auroc(table, weights)
    assert (score.value, score.low, score.high, score.interval) == (1.0, None, None, "none")


def test_miss_and_false_alarm_rates_are_counted_at_the_gate(row):
    rows = [
        row("a", "cut", "good", flagged=False),
        row("b", "cut", "good", flagged=True),
        row("c", "cut", "cut"),
        row("d", "good", "cut"),
        row("e", "good", "good", flagged=True),
        row("f", "good", "good", flagged=False),
    ]
    scores = detection_scores(*table_and_weights(rows))
    assert (scores.miss_rate.k, scores.miss_rate.n) == (1, 3)
    assert (scores.false_alarm_rate.k, scores.false_alarm_rate.n) == (2, 3)
    assert scores.miss_rate.interval == "clopper-pearson"


def test_rates_without_images_say_why(row):
    scores = detection_scores(*table_and_weights([row("a", "good", "good")]))
    assert scores.miss_rate.value is None
    assert scores.miss_rate.note == "no defective images"
