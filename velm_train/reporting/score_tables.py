"""Figures of `task=score` go in; short tables for the terminal come out, in percent with 95 % intervals."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from velm_train.core.scores import Score, Scoreboard
from velm_train.reporting import words
from velm_train.reporting.score_files import PublishedRow


def figure(score: Score) -> Text:
    """Returns a figure with the ends of its interval, if it has one."""
    ends = words.interval(score)
    return Text(f"{words.percent(score.value)} [{ends}]" if ends else words.percent(score.value))


def published_table(rows: Sequence[PublishedRow], scoreboard: Scoreboard) -> Table:
    """Returns the evaluation released with VELM, and the gate's misses beside it.

    Args:
        rows: one for each row of the scoreboard, in its order.
        scoreboard: the same systems with fixed label lists.
    """
    table = Table(
        title="As VELM publishes: all images, normal ones included, mean over categories",
        caption="classes are the labels that occur; not the figures to compare systems by",
    )
    table.add_column("system", max_width=30, overflow="fold")
    for name in ("accuracy", "macro-F1", "kappa"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("defects\nmissed", justify="right")
    for row, other in zip(rows, scoreboard.rows, strict=True):
        detection = other.scores.overall.detection
        scores = (row.scores.accuracy, row.scores.macro_f1, row.scores.kappa)
        table.add_row(
            row.name,
            *(figure(score) for score in scores),
            words.percent(detection.miss_rate.value),
            style="dim" if other.trivial else "",
        )
    return table
