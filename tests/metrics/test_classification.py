"""Recall and F1 over fixed label lists, by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, recall_score

from velm_train.metrics.classification import balanced_recall_values, classification_scores, macro_f1_values
from velm_train.metrics.intervals import stratified_weights
from velm_train.metrics.table import make_table

LABELS = {"nut": ("bent", "cut", "rust"), "tile": ("oil", "crack")}


def ones(table):
    return np.ones((1, len(table)))


@pytest.mark.parametrize(("ours", "reference"), [(balanced_recall_values, recall_score), (macro_f1_values, f1_score)])
def test_means_over_categories_equal_sklearn_with_fixed_labels(random_rows, ours, reference):
    table = make_table(random_rows(3), label_sets=LABELS)
    passed = table.defect & table.flagged
    expected = []
    for category, listed in ((0, [0, 1, 2]), (1, [3, 4])):
        members = passed & (table.category == category)
        gt, pred = table.gt_type[members], table.pred_type[members]
        expected.append(reference(gt, pred, labels=listed, average="macro", zero_division=0))
    assert ours(table, ones(table), among=passed)[0] == pytest.approx(np.mean(expected), abs=1e-12)


def test_resampled_f1_equals_sklearn_with_sample_weights(random_rows):
    table = make_table([r for r in random_rows(4) if r.category == "nut"], label_sets=LABELS)
    weights = stratified_weights(table.strata, num_bootstrap=3, seed=0)
    for i in range(3):
        expected = f1_score(
            table.gt_type[table.defect],
            table.pred_type[table.defect],
            labels=[0, 1, 2],
            average="macro",
            sample_weight=weights[i, table.defect],
            zero_division=0,
        )
        assert macro_f1_values(table, weights, among=table.defect)[i] == pytest.approx(expected, abs=1e-12)


def test_types_of_one_category_weigh_alike_and_categories_weigh_alike(row):
    rows = [row(f"a{i}", "cut", "cut") for i in range(8)] + [row("b", "bent", "cut")]
    rows += [row("c", "oil", "oil", category="tile")]
    table = make_table(rows, label_sets=LABELS)
    assert balanced_recall_values(table, ones(table), among=table.defect)[0] == pytest.approx((0.5 + 1.0) / 2)


def test_answer_outside_the_list_costs_recall_but_makes_no_class(row):
    rows = [row("a", "cut", "cut"), row("b", "cut", None), row("c", "bent", "bent")]
    table = make_table(rows, label_sets=LABELS)
    # cut: recall 1/2, F1 2*1/(2+1); bent: 1. sklearn over the labels that occur would add a third, worth zero.
    assert balanced_recall_values(table, ones(table), among=table.defect)[0] == pytest.approx(0.75)
    assert macro_f1_values(table, ones(table), among=table.defect)[0] == pytest.approx((2 / 3 + 1) / 2)


def test_gate_misses_do_not_count_given_the_gate_flagged(row):
    rows = [row("a", "cut", "good", flagged=False), row("b", "cut", "cut"), row("c", "bent", "bent")]
    table = make_table(rows, label_sets=LABELS)
    scores = classification_scores(table, stratified_weights(table.strata, num_bootstrap=20, seed=0))
    assert scores.given_detected_balanced_recall.value == 1.0
    assert scores.given_detected_balanced_recall.n == 2


def test_type_that_was_never_flagged_is_left_out_and_counted_in_each_category(row):
    rows = [row("a", "cut", "good", flagged=False), row("b", "bent", "bent")]
    rows += [row("c", "cut", "cut", category="tile")]
    table = make_table(rows, label_sets={"nut": ("bent", "cut"), "tile": ("cut",)})
    scores = classification_scores(table, stratified_weights(table.strata, num_bootstrap=20, seed=0))
    assert scores.given_detected_balanced_recall.value == 1.0
    said = "without 1 of 3 pairs of category and type: the gate flagged none of their images"
    assert scores.given_detected_balanced_recall.note.startswith(said)


def test_nothing_flagged_is_none_with_a_reason(row):
    table = make_table([row("a", "cut", "good")], label_sets=LABELS)
    scores = classification_scores(table, stratified_weights(table.strata, num_bootstrap=20, seed=0))
    assert scores.given_detected_macro_f1.value is None
    assert scores.given_detected_macro_f1.note == "the gate flagged no defective image"
