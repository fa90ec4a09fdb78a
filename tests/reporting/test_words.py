"""Numbers in words, by hand."""

from dataclasses import replace

import pytest

from velm_train.core.scores import Score
from velm_train.reporting import words


def test_percent_and_interval_share_one_decimal():
    score = Score(value=0.7779, low=0.756, high=0.8004, n=5, k=None, interval="bootstrap", note="")
    assert (words.percent(score.value), words.interval(score)) == ("77.8", "75.6\N{EN DASH}80.0")
    assert (words.percent(None), words.interval(Score.undefined("x"))) == ("\N{EN DASH}", "")


def test_differences_carry_their_sign():
    assert words.signed_points(0.051) == "+5.1"
    assert words.signed_points(-0.3) == "\N{MINUS SIGN}30.0"


@pytest.mark.parametrize(
    ("value", "said"), [(0.012, "12 ms"), (0.00002, "20 µs"), (2.04, "2.0 s"), (342, "5.7 min"), (9000, "2.5 h")]
)
def test_durations_use_the_unit_that_reads_best(value, said):
    assert words.seconds(value) == said


def test_p_value_is_never_zero():
    assert (words.p_value(1e-9), words.p_value(0.0654)) == ("< 0.001", "0.065")


def test_shares_are_rounded_to_a_hundred():
    assert words.out_of_hundred([1 / 3, 1 / 3, 1 / 3]) == [34, 33, 33]
    assert words.out_of_hundred([0.005, 0.995]) == [1, 99]
    assert sum(words.out_of_hundred([0.123, 0.456, 0.211, 0.21])) == 100


def test_headline_is_plain_and_counts_are_given(scoreboard):
    group = scoreboard.rows[0].scores.overall
    assert words.defect_sentence(group) == (
        "Of 100 defective parts, 70 are flagged and named right, 15 are flagged under a wrong name, 10 pass as good, "
        "and 5 are flagged without a name."
    )
    assert words.normal_sentence(group) == "Of 100 good parts, 10 end as a false alarm."
    assert "14 of 20 defective parts" in words.evidence_sentence(group)


def test_few_false_alarms_are_not_rounded_to_none(scoreboard):
    group = scoreboard.rows[0].scores.overall
    rare = Score(value=0.002, low=0.0, high=0.01, n=500, k=1, interval="clopper-pearson", note="")
    changed = replace(group, outcomes=replace(group.outcomes, normals_stopped=rare))
    assert words.normal_sentence(changed) == "Of 100 good parts, fewer than one ends as a false alarm (1 of 500)."


def test_absent_parts_are_not_spoken_of(scoreboard):
    group = scoreboard.rows[0].scores.overall
    changed = replace(group, outcomes=replace(group.outcomes, normals_stopped=Score.undefined("no normal images")))
    assert words.normal_sentence(changed) == "No good part was tested."


def test_rows_are_marked_with_gate_triviality_and_subset(scoreboard):
    first, blind, trivial = scoreboard.rows
    assert words.row_marks(first, num_images=30) == []
    assert words.row_marks(trivial, num_images=30) == ["trivial"]
    assert words.row_marks(blind, num_images=60) == ["30 of 60 images: every second image"]
    oracle = replace(first, scores=replace(first.scores, gate_policies=("oracle",)))
    assert words.row_marks(oracle, num_images=30) == ["gate: oracle"]


def test_type_without_a_readable_name_keeps_its_folder_name():
    names = {"nut": {"cut": "a clean cut"}}
    assert words.display_name(names, "nut", "cut") == "a clean cut"
    assert words.display_name(names, "nut", "rust") == "rust"
    assert words.display_name(names, "tile", "oil") == "oil"
