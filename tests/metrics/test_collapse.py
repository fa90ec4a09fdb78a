"""One-sided answers raise the alarm only where the truth is not one-sided."""

import numpy as np
import pytest

from velm_train.core.scores import PairedDifference, Score
from velm_train.metrics.collapse import collapse_check, combined_check, entropy_fraction, image_blind_check
from velm_train.metrics.scoreboard import compare_predictions
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


def planted(row, *, sees, num=60):
    """Rows of a model that reads the picture or draws a type at random, and of the same model without pictures."""
    rng = np.random.default_rng(0)
    types = LABELS["nut"]
    run, blind = [], []
    for i in range(num):
        truth, drawn, other = types[i % 3], types[rng.integers(3)], types[rng.integers(3)]
        run.append(row(f"{i:03d}", truth, truth if sees and rng.random() < 0.8 else drawn))
        blind.append(row(f"{i:03d}", truth, other))
    return run, blind


def blind_check_of(run, blind):
    versus = compare_predictions(run, blind, label_sets=LABELS, num_bootstrap=200, seed=0)
    return image_blind_check(versus, num_flagged_defects=len(run))


def test_model_that_never_looks_trips_the_alarm_although_its_answers_vary(row):
    run, blind = planted(row, sees=False)
    assert collapse_check(make_table(run, label_sets=LABELS)).alarm is False
    check = blind_check_of(run, blind)
    assert check.alarm is True
    assert check.gap.low <= 0 <= check.gap.high
    assert check.note.startswith("the image instead of a grey picture is worth ")


def test_picture_that_makes_answers_worse_is_worth_less_than_nothing(row):
    types = LABELS["nut"]
    run = [row(f"{i:03d}", types[i % 3], types[(i + (i % 2)) % 3]) for i in range(30)]  # every second one right
    blind = [row(f"{i:03d}", types[i % 3], types[i % 3]) for i in range(30)]
    check = blind_check_of(run, blind)
    assert check.alarm is True
    assert check.note.startswith("the image instead of a grey picture is worth \N{MINUS SIGN}50.0 points, 95 %")
    assert "-" not in check.note


def test_model_that_looks_does_not_trip_it_and_the_gap_is_what_looking_is_worth(row):
    check = blind_check_of(*planted(row, sees=True))
    assert check.alarm is False
    assert check.gap.low > 0.2
    assert check.note == ""


def test_constant_answer_trips_both_alarms(row):
    run = [row(f"{i:03d}", LABELS["nut"][i % 3], "cut") for i in range(30)]
    assert collapse_check(make_table(run, label_sets=LABELS)).alarm is True
    check = blind_check_of(run, run)
    assert (check.alarm, check.gap.value) == (True, 0.0)


def test_few_defects_or_no_figure_give_no_verdict_about_looking(row):
    run, blind = planted(row, sees=True, num=9)
    check = blind_check_of(run, blind)
    assert check.alarm is None
    assert "needs 10 flagged defects, has 9" in check.note
    missing = PairedDifference(
        difference=Score.undefined("no defective images"),
        num_only_first_right=0,
        num_only_other_right=0,
        mcnemar_p_value=1.0,
    )
    assert image_blind_check(missing, num_flagged_defects=50).note == "no defective images"
