"""A scoreboard goes in; a short table for the terminal comes out."""

from rich.table import Table
from rich.text import Text

from velm_train.core.scores import Score, Scoreboard, ScoreboardRow
from velm_train.reporting import words

MAX_WIDTH = 100


def scoreboard_table(scoreboard: Scoreboard) -> Table:
    """Returns rows of systems against the figures that matter most, at most 100 characters wide.

    End-to-end balanced recall stands once for each group of categories, or once overall if there is one group only.
    """
    groups = [group.name for group in scoreboard.rows[0].scores.groups]
    shown = groups if len(groups) > 1 else ["overall"]
    table = Table(title="Scoreboard, in percent with 95 % intervals", caption=_caption(scoreboard))
    table.add_column("system", max_width=30, overflow="fold")
    table.add_column("gate\nAUROC", justify="right")
    table.add_column("false\nalarms", justify="right")
    for name in shown:
        table.add_column(f"end to end\n{name}", justify="right", no_wrap=True)
    table.add_column("good\npassed", justify="right")
    table.add_column("n", justify="right")
    for row in scoreboard.rows:
        overall = row.scores.overall
        table.add_row(
            _name(row, num_images=scoreboard.num_images),
            words.percent(overall.detection.image_auroc.value),
            words.percent(overall.detection.false_alarm_rate.value),
            *(_figure(_end_to_end(row, name)) for name in shown),
            words.percent(overall.system.normal_recall.value),
            f"{overall.num_images}",
            style="bold" if row is scoreboard.rows[0] else "dim" if row.trivial else "",
        )
    return table


def _name(row: ScoreboardRow, *, num_images: int) -> Text:
    name = Text(row.name)
    other_gates = [policy for policy in row.scores.gate_policies if policy != "detector"]
    if other_gates and not row.trivial:
        name.append(f" [gate: {', '.join(other_gates)}]")
    if row.scores.overall.num_images != num_images:
        name.append(" *")
    return name


def _caption(scoreboard: Scoreboard) -> str | None:
    partial = [row.name for row in scoreboard.rows if row.scores.overall.num_images != scoreboard.num_images]
    return f"* scored on fewer images than the run ({scoreboard.num_images})" if partial else None


def _end_to_end(row: ScoreboardRow, name: str) -> Score:
    group = row.scores.overall if name == "overall" else row.scores.group(name)
    return Score.undefined("no images of this group") if group is None else group.system.end_to_end_balanced_recall


def _figure(score: Score) -> Text:
    ends = words.interval(score)
    return Text(f"{words.percent(score.value)} [{ends}]" if ends else words.percent(score.value))
