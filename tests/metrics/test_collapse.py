"""One-sided answers raise the alarm only where the truth is not one-sided."""

import pytest

from velm_train.metrics.collapse import collapse_check, combined_check, entropy_fraction
from velm_train.metrics.table import make_table

LABELS = {"nut": ("bent", "cut", "rust"), "tile": ("oil", "crack")}


def check(row, pairs, *, category="nut"):
    rows = [row(f"{i:03d}", gt, pred, category=category) for i, (gt, pred) in enumerate(pairs)]
    return collapse_check(make_table(rows, label_sets=LABELS))


def test_entropy_of_equal_counts_is_one_and_of_one_type_zero():
    assert entropy_fraction([5, 5], num_types=2) == pytest.approx(1.0)
    assert entropy_fraction([5], num_types=2) == 0.0
    assert entropy_fraction([3, 1], num_types=2) == pytest.approx(0.8113, abs=1e-4)


def test_one_answer_for_everything_raises_the_alarm_by_name(row):
    result = check(row, [("bent", "cut")] * 6 + [("cut", "cut")] * 6)
    assert result.alarm is True
    assert result.top_answer == "cut"
    assert "100%" in result.note


def test_right_answers_raise_no_alarm(row):
    assert check(row, [("bent", "bent")] * 6 + [("cut", "cut")] * 6).alarm is False


def test_lopsided_truth_raises_no_alarm(row):
    result = check(row, [("cut", "cut")] * 30 + [("bent", "cut")])
    assert result.alarm is False
    assert "lopsided" in result.note


def test_few_defects_give_no_verdict(row):
    result = check(row, [("cut", "cut"), ("bent", "cut")])
    assert result.alarm is None
    assert "needs 10" in result.note


def test_alarm_in_one_category_is_named_in_the_combination(row):
    bad = check(row, [("bent", "cut")] * 6 + [("cut", "cut")] * 6)
    good = check(row, [("oil", "oil")] * 6 + [("crack", "crack")] * 6, category="tile")
    combined = combined_check({"nut": bad, "tile": good})
    assert combined.alarm is True
    assert combined.note.startswith("nut:")
    assert combined_check({"tile": good}).alarm is False
    assert combined_check({}).alarm is None
