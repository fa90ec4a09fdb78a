"""Pairs of runs: same images found by name, content and truth; exact tests, Holm's correction, no effect of order."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from velm_train.core.comparison import ALL_IMAGES
from velm_train.metrics.paired import RunAnswers, compare_pair, compare_pairs, holm, match_images

LABELS = {"nut": ("bent", "cut", "rust"), "tile": ("oil", "crack")}


def answers(label, rows, **changes) -> RunAnswers:
    fields = {
        "label": label,
        "predictions": rows,
        "label_sets": LABELS,
        "unknown_types": {},
        "contents": {row.image_id: f"sha-{row.image_id}" for row in rows},
        "split_hash": label,
    }
    return RunAnswers(**(fields | changes))


def worse(rows, num_wrong):
    """Gives the first right rows of a type to another type."""
    changed = list(rows)
    right = [i for i, row in enumerate(rows) if row.pred_defect_type == row.gt_defect_type != "good"]
    for i in right[:num_wrong]:
        other = next(name for name in LABELS[rows[i].category] if name != rows[i].gt_defect_type)
        changed[i] = replace(rows[i], pred_defect_type=other)
    return changed


def pair_of(first, other, *, seed=0):
    return compare_pair(first, other, num_bootstrap=200, seed=seed)


def test_p_value_is_that_of_a_fair_coin_over_the_images_one_run_alone_gets_right(row) -> None:
    truth = ["cut", "rust"] * 8
    first = [row(f"{i}", gt, gt if i != 3 else "bent") for i, gt in enumerate(truth)]
    other = [row(f"{i}", gt, gt if i > 2 else "bent") for i, gt in enumerate(truth)]
    test = pair_of(answers("A", first), answers("B", other)).test(ALL_IMAGES)
    assert (test.paired.num_only_first_right, test.paired.num_only_other_right) == (3, 1)
    assert test.paired.mcnemar_p_value == pytest.approx(float(2 * Fraction(1 + 4, 2**4)))
    assert test.paired.mcnemar_p_value == pytest.approx(stats.binomtest(1, 4).pvalue)


def test_difference_is_balanced_recall_of_the_other_minus_the_first(row) -> None:
    truth = ["cut"] * 4 + ["rust"] * 2 + ["good"] * 3
    first = [row(f"{i}", gt, gt) for i, gt in enumerate(truth)]
    other = [row(f"{i}", gt, "bent" if i in (0, 4) else gt) for i, gt in enumerate(truth)]
    test = pair_of(answers("A", first), answers("B", other)).test(ALL_IMAGES)
    assert test.paired.difference.value == pytest.approx((3 / 4 + 1 / 2) / 2 - 1)
    assert test.num_images == 9


def test_run_against_itself_differs_in_nothing(random_rows) -> None:
    rows = random_rows(1)
    pair = pair_of(answers("A", rows), answers("B", rows))
    assert pair.match.is_complete
    assert pair.note == ""
    assert [test.images for test in pair.tests] == [ALL_IMAGES, "seen", "unseen"]
    for test in pair.tests:
        assert test.paired.difference.value == 0.0
        assert test.paired.mcnemar_p_value == test.adjusted_p_value == 1.0


def test_order_of_runs_turns_signs_and_nothing_else(random_rows) -> None:
    runs = [answers("A", random_rows(1)), answers("B", random_rows(2)), answers("C", worse(random_rows(1), 30))]
    forward = compare_pairs(runs, only_first=False, num_bootstrap=200, seed=3)
    backward = compare_pairs(runs[::-1], only_first=False, num_bootstrap=200, seed=3)
    turned = {frozenset((pair.first, pair.other)): pair for pair in backward}
    for pair in forward:
        again = turned[frozenset((pair.first, pair.other))]
        assert again.first == pair.other
        for test, mirrored in zip(pair.tests, again.tests, strict=True):
            assert test.adjusted_p_value == mirrored.adjusted_p_value
            assert test.paired.mcnemar_p_value == mirrored.paired.mcnemar_p_value
            assert test.paired.num_only_first_right == mirrored.paired.num_only_other_right
            ends = (mirrored.paired.difference.high, mirrored.paired.difference.low)
            assert (test.paired.difference.low, test.paired.difference.high) == pytest.approx([-end for end in ends])


def test_order_of_rows_changes_nothing(random_rows) -> None:
    rows, others = random_rows(1), random_rows(2)
    shuffled = [others[i] for i in np.random.default_rng(0).permutation(len(others))]
    assert pair_of(answers("A", rows), answers("B", others)) == pair_of(answers("A", rows), answers("B", shuffled))


def test_only_images_that_both_tested_count(random_rows) -> None:
    rows = random_rows(1)
    first, other = answers("A", rows[:200]), answers("B", worse(rows, 500)[50:])
    pair = pair_of(first, other)
    assert (pair.match.num_shared, pair.match.num_only_first, pair.match.num_only_other) == (150, 50, 40)
    assert "150 images" in pair.note
    both = pair_of(answers("A", rows[50:200]), answers("B", worse(rows, 500)[50:200]))
    assert pair.tests == both.tests
    assert both.note == ""


def test_image_of_the_same_name_with_another_content_is_another_image(row) -> None:
    rows = [row(f"{i}", "cut", "cut") for i in range(4)]
    other = answers(
        "B", rows, contents={row.image_id: f"sha-{row.image_id if i else 'x'}" for i, row in enumerate(rows)}
    )
    shared, match = match_images(answers("A", rows), other)
    assert shared == {"1", "2", "3"}
    assert (match.num_changed, match.num_relabelled, match.is_complete) == (1, 0, False)


def test_image_with_another_true_type_is_left_out(row) -> None:
    rows = [row(f"{i}", "cut", "cut") for i in range(3)]
    relabelled = [replace(rows[0], gt_defect_type="rust"), *rows[1:]]
    _, match = match_images(answers("A", rows), answers("B", relabelled))
    assert (match.num_shared, match.num_relabelled) == (2, 1)
    assert pair_of(answers("A", rows), answers("B", relabelled)).test(ALL_IMAGES).num_images == 2


def test_runs_without_a_shared_image_are_not_tested(row) -> None:
    pair = pair_of(answers("A", [row("0", "cut", "cut")]), answers("B", [row("1", "cut", "cut")]))
    assert pair.tests == ()
    assert "share no test image" in pair.note
    assert (pair.match.num_only_first, pair.match.num_only_other) == (1, 1)


def test_unknown_content_is_tested_only_within_one_split(random_rows) -> None:
    rows = random_rows(1)
    blind = answers("B", rows, contents=None)
    assert pair_of(answers("A", rows), blind).tests == ()
    assert "split of B cannot be read" in pair_of(answers("A", rows), blind).note
    same_split = answers("C", rows, split_hash="B")
    assert pair_of(blind, same_split).test(ALL_IMAGES).num_images == len(rows)
    nameless = [answers(label, rows, contents=None, split_hash="") for label in "DE"]
    assert "split of D and E cannot be read" in pair_of(*nameless).note


def test_category_in_two_groups_counts_in_neither(random_rows) -> None:
    rows = random_rows(1)
    moved = [replace(row, group="seen") for row in rows]
    pair = pair_of(answers("A", rows), answers("B", moved))
    assert {test.images: test.num_images for test in pair.tests} == {ALL_IMAGES: 240, "seen": 120}


def test_unknown_types_are_those_of_each_run(row) -> None:
    rows = [row(f"{i}", "rust", None, options={"none of these": -0.1, "cut": -3.0}) for i in range(6)]
    knows, does_not = answers("A", rows), answers("B", rows, unknown_types={"nut": ("rust",)})
    test = pair_of(knows, does_not).test(ALL_IMAGES)
    assert (test.paired.num_only_first_right, test.paired.num_only_other_right) == (0, 6)


def test_longer_label_list_of_one_run_does_not_matter(row) -> None:
    rows = [row(f"{i}", ("cut", "rust")[i % 2], "cut") for i in range(8)]
    longer = answers("B", rows, label_sets={"nut": ("zinc", *LABELS["nut"])})
    assert pair_of(answers("A", rows), longer).tests == pair_of(answers("A", rows), answers("B", rows)).tests


def test_holm_multiplies_by_the_number_of_hypotheses_left_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.2]) == [0.2]
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_keeps_the_chance_of_any_false_alarm_below_the_level() -> None:
    p_values = np.random.default_rng(0).uniform(size=(4000, 6))
    any_wrong = np.mean([min(holm(draw.tolist())) < 0.05 for draw in p_values])
    assert abs(any_wrong - (1 - (1 - 0.05 / 6) ** 6)) < 4 * math.sqrt(0.05 * 0.95 / 4000)


def test_p_values_are_corrected_over_the_pairs_of_one_set_of_images(random_rows) -> None:
    rows = random_rows(1)
    runs = [answers("A", rows), answers("B", worse(rows, 12)), answers("C", worse(rows, 40))]
    pairs = compare_pairs(runs, only_first=False, num_bootstrap=100, seed=0)
    assert [(pair.first, pair.other) for pair in pairs] == [("A", "B"), ("A", "C"), ("B", "C")]
    for name in (ALL_IMAGES, "seen", "unseen"):
        tests = [pair.test(name) for pair in pairs]
        assert [test.adjusted_p_value for test in tests] == holm([test.paired.mcnemar_p_value for test in tests])
    strongest = pairs[1].test(ALL_IMAGES)
    assert strongest.adjusted_p_value == pytest.approx(3 * strongest.paired.mcnemar_p_value)


def test_first_run_alone_can_be_the_one_to_beat(random_rows) -> None:
    runs = [answers(label, random_rows(i)) for i, label in enumerate("ABC")]
    pairs = compare_pairs(runs, only_first=True, num_bootstrap=100, seed=0)
    assert [(pair.first, pair.other) for pair in pairs] == [("A", "B"), ("A", "C")]
