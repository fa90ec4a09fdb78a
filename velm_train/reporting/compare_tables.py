"""A comparison goes in; short tables for the terminal and plain tables for W&B come out."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from velm_train.core.comparison import Comparison, Sweep
from velm_train.reporting import compare_words, words
from velm_train.reporting.compare_figures import RECALL, Figure, score_of, shown_figures

Cell = str | float | int | None

MAX_SETTINGS = 20
MAX_PAIRS = 20
"""Settings and pairs that the terminal shows; the page has all."""

MAX_PAIRS_IN_FULL = 6
"""With more pairs than this, the terminal shows the test on all shared images alone."""

MAX_SETTING_COLUMNS = 6
"""With more runs than this their settings do not fit beside each other in a terminal."""

MAX_SWEEP_ROWS = 30
"""Settings of a sweep that the terminal shows."""

_TERMINAL_KEYS = ("system/normal_recall", "gate/image_auroc", "gate/miss_rate", "gate/false_alarm_rate")


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainTable:
    """Columns and rows; every column holds one kind of value, or None."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def terminal_tables(comparison: Comparison) -> Iterator[Table]:
    """Yields names, figures, pairs, seeds and differing settings, each at most about 100 characters wide."""
    yield _names(comparison)
    yield _figures(comparison)
    if comparison.pairs:
        yield _pairs(comparison)
    for sweep in comparison.sweeps:
        yield _sweep(sweep)
    if comparison.seed_groups and not comparison.sweeps:
        yield _seeds(comparison)
    if len(comparison.runs) <= MAX_SETTING_COLUMNS:
        yield _settings(comparison)


def _names(comparison: Comparison) -> Table:
    table = Table.grid(padding=(0, 2))
    for run in comparison.runs:
        seed = "" if run.seed is None else f"seed {run.seed}"
        table.add_row(Text(run.label, style="bold"), Text(compare_words.name(run)), seed)
    return table


def _figures(comparison: Comparison) -> Table:
    table = Table(title="Runs, in percent with 95 % intervals")
    table.add_column("")
    columns = _shown(comparison)
    for column in columns:
        table.add_column("\n".join(column.lines), justify="right", no_wrap=True)
    table.add_column("n", justify="right")
    for run in comparison.runs:
        figures = [
            compare_words.figure(score) if column.key.startswith(RECALL) else words.percent(score.value)
            for column in columns
            for score in [score_of(run, column.key)]
        ]
        table.add_row(run.label, *figures, str(run.num_images or words.ABSENT))
    return table


def _shown(comparison: Comparison) -> list[Figure]:
    """Returns the columns that fit into a terminal: recall of each group, or over all images, and the gate."""
    columns = [one for one in shown_figures(comparison.runs) if one.key.startswith(RECALL) or one.key in _TERMINAL_KEYS]
    apart = any(one.key.startswith(f"{RECALL}/") for one in columns)
    return [one for one in columns if not (apart and one.key == RECALL)]


def _pairs(comparison: Comparison) -> Table:
    shown = comparison.pairs[:MAX_PAIRS]
    hidden = len(comparison.pairs) - len(shown)
    few = len(comparison.pairs) <= MAX_PAIRS_IN_FULL
    parts = [f"{hidden} more pairs" if hidden else "", "" if few else "groups of categories"]
    table = Table(
        title="Differences in end-to-end balanced recall on shared images, in points",
        caption=f"on the page: {' and '.join(filter(None, parts))}" if any(parts) else None,
    )
    for heading in ("pair", "images"):
        table.add_column(heading, no_wrap=True)
    for heading in ("n", "difference", "only one\nis right", "McNemar\np", "p after\nHolm"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("shown", no_wrap=True)
    for pair in shown:
        name = f"{pair.other} \N{MINUS SIGN} {pair.first}"
        for test in pair.tests if few else pair.tests[:1]:
            better = compare_words.better_run(pair, test)
            table.add_row(
                name if test is pair.tests[0] else "",
                test.images,
                str(test.num_images),
                compare_words.difference(test.paired.difference),
                f"{test.paired.num_only_other_right} : {test.paired.num_only_first_right}",
                words.p_value(test.paired.mcnemar_p_value),
                words.p_value(test.adjusted_p_value),
                "no" if better is None else f"{better[0]} better",
            )
        if not pair.tests:
            table.add_row(name, "none shared", "", "", "", "", "", "no test")
    return table


def _seeds(comparison: Comparison) -> Table:
    table = Table(title="Runs that are equal but for the seed: mean \N{PLUS-MINUS SIGN} standard deviation, in percent")
    table.add_column("runs", overflow="fold")
    table.add_column("n", justify="right")
    columns = _shown(comparison)
    for column in columns:
        table.add_column("\n".join(column.lines), justify="right", no_wrap=True)
    for group in comparison.seed_groups:
        figures = (compare_words.group_spread(group, one.key) for one in columns)
        table.add_row(compare_words.seed_group(group), str(len(group.labels)), *figures)
    return table


def _sweep(sweep: Sweep) -> Table:
    hidden = len(sweep.rows) - min(len(sweep.rows), MAX_SWEEP_ROWS)
    lines = [f"job {job.number} {compare_words.unfinished_job(job, sweep)}" for job in sweep.unfinished]
    caption = "\n".join([*([f"{hidden} more settings, see the page"] if hidden else []), *lines[:MAX_SWEEP_ROWS]])
    table = Table(title=compare_words.sweep_title(sweep), caption=escape(caption) or None)
    for key in sweep.keys:
        table.add_column(key, overflow="fold")
    table.add_column(f"end to end\n{sweep.objective}", justify="right", no_wrap=True)
    table.add_column("n", justify="right")
    table.add_column("runs", overflow="fold")
    for row in sweep.rows[:MAX_SWEEP_ROWS]:
        cells = (Text(value) for value in row.settings)
        table.add_row(*cells, compare_words.sweep_row(row), str(len(row.values)), ", ".join(row.labels))
    return table


def _settings(comparison: Comparison) -> Table:
    common = [one for one in comparison.differences if one.known_to_all]
    hidden = len(comparison.differences) - min(len(common), MAX_SETTINGS)
    parts = [f"{comparison.num_equal} settings are equal", f"{hidden} more differ, see the page" if hidden else ""]
    table = Table(title="Settings that differ", caption="; ".join(filter(None, parts)))
    table.add_column("setting", overflow="fold")
    for run in comparison.runs:
        table.add_column(run.label, overflow="fold")
    for one in common[:MAX_SETTINGS]:
        table.add_row(Text(one.key), *(Text(compare_words.setting(value)) for value in one.values))
    return table


def wandb_tables(comparison: Comparison) -> tuple[PlainTable, ...]:
    """Returns figures, pairs and differing settings as plain tables."""
    columns = shown_figures(comparison.runs)
    figures = PlainTable(
        name="runs",
        columns=(
            "run",
            "name",
            "seed",
            "images",
            *(f"{one.key}{end}" for one in columns for end in ("", "/low", "/high")),
        ),
        rows=tuple(
            (
                run.label,
                compare_words.name(run),
                run.seed,
                run.num_images,
                *(
                    number
                    for one in columns
                    for score in [score_of(run, one.key)]
                    for number in (score.value, score.low, score.high)
                ),
            )
            for run in comparison.runs
        ),
    )
    pairs = PlainTable(
        name="pairs",
        columns=("first", "other", "images", "n", "difference", "low", "high", "p", "p_holm"),
        rows=tuple(
            (
                pair.first,
                pair.other,
                test.images,
                test.num_images,
                test.paired.difference.value,
                test.paired.difference.low,
                test.paired.difference.high,
                test.paired.mcnemar_p_value,
                test.adjusted_p_value,
            )
            for pair in comparison.pairs
            for test in pair.tests
        ),
    )
    settings = PlainTable(
        name="settings",
        columns=("setting", *(run.label for run in comparison.runs)),
        rows=tuple((one.key, *one.values) for one in comparison.differences),
    )
    return tuple(table for table in (figures, *map(_sweep_table, comparison.sweeps), pairs, settings) if table.rows)


def _sweep_table(sweep: Sweep) -> PlainTable:
    return PlainTable(
        name=f"sweep {sweep.name}",
        columns=(*sweep.keys, sweep.objective, "low", "high", "seeds", "runs"),
        rows=tuple(
            (*row.settings, row.mean, row.low, row.high, len(row.values), ", ".join(row.labels)) for row in sweep.rows
        ),
    )
