"""The verdict names the strongest row that looks at nothing, and claims no more than the interval does."""

from dataclasses import replace

import pytest

from velm_train.core.scores import Score
from velm_train.reporting.verdict import verdict_sentence


def against(scoreboard, *, value, low, high):
    row = scoreboard.rows[2]
    difference = replace(row.versus_first.difference, value=value, low=low, high=high)
    changed = replace(row, versus_first=replace(row.versus_first, difference=difference))
    return verdict_sentence(replace(scoreboard, rows=(*scoreboard.rows[:2], changed)))


START = "Defects end with their right name in 70.0 % of cases, types and categories weighted equally, and 90.0 %"


@pytest.mark.parametrize(
    ("value", "low", "high", "judged", "points"),
    [
        (-0.3, -0.35, -0.25, "better than", "+30.0 points, +25.0 to +35.0."),
        (0.1, 0.02, 0.18, "worse than", "\u221210.0 points, \u221218.0 to \u22122.0."),
        (-0.02, -0.1, 0.06, "not shown to differ from", "+2.0 points, \u22126.0 to +10.0."),
    ],
)
def test_comparison_follows_the_interval(scoreboard, value, low, high, judged, points):
    sentence = against(scoreboard, value=value, low=low, high=high)
    assert sentence.startswith(START)
    assert f"that is {judged} “majority type”, which looks at no picture: {points}" in sentence


def test_without_an_interval_nothing_is_judged(scoreboard):
    sentence = against(scoreboard, value=0.0, low=None, high=None)
    assert sentence.endswith("that is +0.0 points against “majority type”, no interval, so chance cannot be judged.")


def test_strongest_blind_row_is_named(scoreboard):
    overall = scoreboard.rows[2].scores.overall
    recall = replace(overall.system.end_to_end_balanced_recall, value=0.6)
    system = replace(overall.system, end_to_end_balanced_recall=recall)
    scores = replace(scoreboard.rows[2].scores, overall=replace(overall, system=system))
    strong = replace(scoreboard.rows[2], name="lucky", scores=scores)
    assert "“lucky”" in verdict_sentence(replace(scoreboard, rows=(*scoreboard.rows, strong)))


def test_board_of_the_run_alone_is_compared_with_nothing(scoreboard):
    assert verdict_sentence(replace(scoreboard, rows=scoreboard.rows[:1])) == f"{START} of good parts pass."


def test_run_without_defects_has_no_verdict(scoreboard):
    run = scoreboard.rows[0]
    system = replace(run.scores.overall.system, end_to_end_balanced_recall=Score.undefined("no defective image"))
    scores = replace(run.scores, overall=replace(run.scores.overall, system=system))
    sentence = verdict_sentence(replace(scoreboard, rows=(replace(run, scores=scores),)))
    assert sentence == "No verdict: no defective image."
