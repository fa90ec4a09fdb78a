"""A gate report goes in; a short table for the terminal comes out."""

from rich.table import Table
from rich.text import Text

from velm_train.core.gate_card import AlphaRow, GateReport
from velm_train.core.scores import Score
from velm_train.reporting import words

_STYLES = {"more than promised": "bold red", "fewer than promised": "yellow", "no guarantee": "bold red"}


def gate_table(report: GateReport) -> Table:
    """Returns promised beside found: every category at the alpha of the run, then all together at every alpha."""
    table = Table(title="False alarms, in percent with 95 % intervals")
    table.add_column("category", max_width=28, overflow="fold")
    for heading in ("set by\nnormals", "asked\nfor", "promised", "found", "of", "missed"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict")
    for category in report.categories:
        _add(table, category.category, str(category.num_calibration), category.row(report.alpha))
    table.add_section()
    for row in report.rows:
        _add(table, "all categories", "", row)
    return table


def _add(table: Table, name: str, num_calibration: str, row: AlphaRow) -> None:
    verdict = row.verdict if row.reachable else f"out of reach, needs n = {row.num_needed}"
    table.add_row(
        Text(name),
        num_calibration,
        f"{100 * row.alpha:g}",
        words.percent(row.promised_rate),
        _figure(row.false_alarms),
        str(row.false_alarms.n) if row.false_alarms.value is not None else words.ABSENT,
        words.percent(row.misses.value),
        Text(verdict, style=_STYLES.get(verdict, "")),
    )


def _figure(score: Score) -> str:
    ends = words.interval(score)
    return f"{words.percent(score.value)} [{ends}]" if ends else words.percent(score.value)
