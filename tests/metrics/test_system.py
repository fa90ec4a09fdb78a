"""End-to-end figures and trivial systems, by hand."""

import numpy as np
import pytest

from velm_train.metrics.intervals import stratified_weights
from velm_train.metrics.system import (
    majority_predictions,
    outcomes,
    perfect_gate_majority_predictions,
    system_scores,
    type_recalls,
)
from velm_train.metrics.table import make_table

LABELS = {"nut": ("bent", "cut", "rust"), "tile": ("oil", "crack")}


def scores_of(rows):
    table = make_table(rows, label_sets=LABELS)
    return system_scores(table, stratified_weights(table.strata, num_bootstrap=100, seed=0))


@pytest.fixture
def nine_rows(row):
    """Nut: 4 cut, 2 bent, 3 good; hits 2, 1, 2."""
    return [
        row("a", "cut", "cut"),
        row("b", "cut", "cut"),
        row("c", "cut", "good", flagged=False),
        row("d", "cut", None),
        row("e", "bent", "bent"),
        row("f", "bent", "good", flagged=True),
        row("g", "good", "good", flagged=False),
        row("h", "good", "good", flagged=True),
        row("i", "good", "cut"),
    ]


def test_misses_unparsed_and_no_defect_answers_are_errors(nine_rows):
    scores = scores_of(nine_rows)
    assert scores.end_to_end_balanced_recall.value == pytest.approx((2 / 4 + 1 / 2) / 2)
    assert scores.end_to_end_balanced_recall.n == 6
    assert "1 of 3 listed types" in scores.end_to_end_balanced_recall.note


def test_normal_ends_as_good_by_the_gate_or_by_the_answer(nine_rows):
    normal_recall = scores_of(nine_rows).normal_recall
    assert (normal_recall.k, normal_recall.n) == (2, 3)


def test_published_accuracy_counts_normals_and_averages_categories(nine_rows, row):
    rows = [*nine_rows, row("j", "oil", "oil", category="tile")]
    assert scores_of(rows).velm_accuracy.value == pytest.approx((5 / 9 + 1) / 2)


def test_outcomes_of_defects_add_up_to_all_of_them(nine_rows):
    result = outcomes(make_table(nine_rows, label_sets=LABELS))
    counts = [
        result.defects_named_right.k,
        result.defects_named_wrong.k,
        result.defects_unnamed.k,
        result.defects_passed_as_good.k,
    ]
    assert counts == [3, 0, 1, 2]
    assert (result.normals_stopped.k, result.normals_stopped.n) == (1, 3)


def test_type_recalls_name_every_listed_type_and_its_gate_misses(nine_rows):
    recalls = {r.defect_type: r for r in type_recalls(make_table(nine_rows, label_sets=LABELS))}
    assert set(recalls) == {"bent", "cut", "rust"}
    assert (recalls["cut"].recall.k, recalls["cut"].recall.n, recalls["cut"].num_missed_by_gate) == (2, 4, 1)
    assert recalls["rust"].recall.value is None


def test_perfect_gate_with_majority_type_by_hand(nine_rows):
    rows = perfect_gate_majority_predictions(nine_rows, label_sets=LABELS)
    scores = scores_of(rows)
    assert scores.end_to_end_balanced_recall.value == pytest.approx(1 / 2)  # cut right, bent wrong
    assert scores.normal_recall.value == 1.0
    assert scores.velm_accuracy.value == pytest.approx(7 / 9)
    assert {r.gate_policy for r in rows} == {"oracle"}


def test_majority_type_flags_everything(nine_rows):
    rows = majority_predictions(nine_rows, label_sets=LABELS)
    scores = scores_of(rows)
    assert scores.normal_recall.value == 0.0
    assert scores.velm_accuracy.value == pytest.approx(4 / 9)
    assert {r.pred_defect_type for r in rows} == {"cut"}


def test_majority_tie_goes_to_the_first_of_the_list(row):
    rows = majority_predictions([row("a", "cut", "cut"), row("b", "bent", "cut")], label_sets=LABELS)
    assert {r.pred_defect_type for r in rows} == {"bent"}


def test_trivial_rows_keep_images_and_labels(random_rows):
    rows = random_rows(0)
    trivial = majority_predictions(rows, label_sets=LABELS)
    assert [(r.image_id, r.gt_defect_type) for r in trivial] == [(r.image_id, r.gt_defect_type) for r in rows]
    assert np.isfinite([r.anomaly_score for r in trivial]).all()
