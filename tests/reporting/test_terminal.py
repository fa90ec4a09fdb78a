"""The terminal table fits and shows what it must."""

import io
from dataclasses import replace

from rich.console import Console

from velm_train.reporting.terminal import scoreboard_table


def printed(scoreboard, width=100):
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(scoreboard_table(scoreboard))
    return stream.getvalue()


def test_table_fits_a_hundred_columns_and_cuts_nothing(scoreboard):
    text = printed(scoreboard)
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "\N{HORIZONTAL ELLIPSIS}" not in text


def test_seen_and_unseen_stand_apart_with_intervals(scoreboard):
    text = printed(scoreboard)
    assert "unseen" in text
    assert text.count("70.0 [65.0\N{EN DASH}75.0]") == 2


def test_one_group_is_shown_overall(scoreboard):
    row = scoreboard.rows[0]
    single = replace(row, scores=replace(row.scores, groups=row.scores.groups[:1]))
    text = printed(replace(scoreboard, rows=(single,)))
    assert "overall" in text
    assert "unseen" not in text


def test_row_on_fewer_images_is_starred(scoreboard):
    row = scoreboard.rows[1]
    fewer = replace(row, scores=replace(row.scores, overall=replace(row.scores.overall, num_images=15)))
    text = printed(replace(scoreboard, rows=(scoreboard.rows[0], fewer)))
    assert "image-blind *" in text
    assert "fewer images than the run (30)" in text


def test_oracle_gate_is_named(scoreboard):
    row = scoreboard.rows[0]
    oracle = replace(row, scores=replace(row.scores, gate_policies=("oracle",)))
    assert "[gate: oracle]" in printed(replace(scoreboard, rows=(oracle,)))
