"""Scoreboard goes in; the verdict on the run in one sentence comes out."""

from velm_train.core.scores import GroupScores, Scoreboard, ScoreboardRow
from velm_train.reporting import words


def verdict_sentence(scoreboard: Scoreboard) -> str:
    """Says what the run achieves, beside the strongest row that sees no picture, and whether chance may explain it."""
    run = scoreboard.rows[0].scores.overall
    recall = run.system.end_to_end_balanced_recall.value
    if recall is None:
        return f"No verdict: {run.system.end_to_end_balanced_recall.note}."
    achieved = (
        f"Defects end with their right name in {words.percent(recall)} % of cases, types and categories weighted "
        f"equally{_good_parts(run)}"
    )
    blind = _strongest_blind_row(scoreboard)
    return achieved + (f"; {_beside(blind)}." if blind else ".")


def _good_parts(run: GroupScores) -> str:
    passed = run.system.normal_recall.value
    return "" if passed is None else f", and {words.percent(passed)} % of good parts pass"


def _strongest_blind_row(scoreboard: Scoreboard) -> ScoreboardRow | None:
    rows = [row for row in scoreboard.rows[1:] if row.trivial and row.versus_first is not None]
    return max(rows, key=_recall) if rows else None


def _recall(row: ScoreboardRow) -> float:
    return row.scores.overall.system.end_to_end_balanced_recall.value or 0.0


def _beside(row: ScoreboardRow) -> str:
    assert row.versus_first is not None
    difference = row.versus_first.difference
    if difference.value is None:
        return f"how that compares with “{row.name}” is not known ({difference.note})"
    gain = 0.0 - difference.value
    if difference.low is None or difference.high is None:
        sure = "no interval, so chance cannot be judged"
        return f"that is {words.signed_points(gain)} points against “{row.name}”, {sure}"
    ends = f"{words.signed_points(0.0 - difference.high)} to {words.signed_points(0.0 - difference.low)}"
    if difference.high < 0:
        judged = "better than"
    elif difference.low > 0:
        judged = "worse than"
    else:
        judged = "not shown to differ from"
    return f"that is {judged} “{row.name}”, which looks at no picture: {words.signed_points(gain)} points, {ends}"
