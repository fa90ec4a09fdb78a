"""A comparison goes in; a Markdown page with every table comes out."""

from collections.abc import Iterable, Iterator, Sequence

from velm_train.core.comparison import Comparison, SettingDifference
from velm_train.reporting import compare_words, words
from velm_train.reporting.compare_figures import score_of, shown_figures
from velm_train.reporting.compare_page import cost_rows


def render_markdown(comparison: Comparison) -> str:
    """Returns the page as Markdown text."""
    return (
        "\n".join(
            [*_opening(comparison), *_runs(comparison), *_sweeps(comparison), *_pairs(comparison), *_rest(comparison)]
        )
        + "\n"
    )


def _opening(comparison: Comparison) -> Iterator[str]:
    yield f"# {_escaped(comparison.title)}"
    yield ""
    yield _escaped(compare_words.headline(comparison))
    yield ""
    yield from (f"- {_escaped(notice)}" for notice in comparison.notices)
    yield from ([""] if comparison.notices else [])


def _runs(comparison: Comparison) -> Iterator[str]:
    columns = shown_figures(comparison.runs)
    yield "## Figures"
    yield ""
    yield "In percent with 95 % intervals."
    yield ""
    yield from _table(
        ("", "run", "seed", *(column.title for column in columns), "images"),
        (
            (
                run.label,
                compare_words.name(run),
                words.ABSENT if run.seed is None else str(run.seed),
                *(compare_words.figure(score_of(run, column.key)) for column in columns),
                str(run.num_images or words.ABSENT),
            )
            for run in comparison.runs
        ),
    )
    if comparison.seed_groups:
        yield "## Means over seeds"
        yield ""
        yield from _table(
            ("runs", "n", *(column.title for column in columns)),
            (
                (
                    compare_words.seed_group(group),
                    str(len(group.labels)),
                    *(compare_words.group_spread(group, column.key) for column in columns),
                )
                for group in comparison.seed_groups
            ),
        )


def _sweeps(comparison: Comparison) -> Iterator[str]:
    for sweep in comparison.sweeps:
        yield f"## {_escaped(compare_words.sweep_title(sweep))}"
        yield ""
        yield _escaped(f"{compare_words.sweep_objective(sweep)}.").capitalize()
        yield ""
        yield from _table(
            (*sweep.keys, sweep.objective, "n", "runs"),
            (
                (*row.settings, compare_words.sweep_row(row), str(len(row.values)), ", ".join(row.labels))
                for row in sweep.rows
            ),
        )
        yield from (
            f"- job {job.number} {_escaped(compare_words.unfinished_job(job, sweep))}" for job in sweep.unfinished
        )
        yield from ([""] if sweep.unfinished else [])


def _pairs(comparison: Comparison) -> Iterator[str]:
    if not comparison.pairs:
        return
    yield "## Pairs"
    yield ""
    yield (
        "Difference of the second run to the first in end-to-end balanced recall, in points, on shared images; exact "
        "McNemar test, corrected after Holm for the number of pairs."
    )
    yield ""
    yield from _table(
        ("pair", "images", "n", "difference", "only one right", "p", "p after Holm", "verdict"),
        (
            (
                f"{pair.first}, {pair.other}",
                test.images,
                str(test.num_images),
                compare_words.difference(test.paired.difference),
                f"{test.paired.num_only_first_right} : {test.paired.num_only_other_right}",
                words.p_value(test.paired.mcnemar_p_value),
                words.p_value(test.adjusted_p_value),
                compare_words.verdict(pair, test),
            )
            for pair in comparison.pairs
            for test in pair.tests
        ),
    )
    yield from (
        f"- {pair.first}, {pair.other}: {_escaped(compare_words.matched(pair))}"
        for pair in comparison.pairs
        if pair.match is not None
    )
    yield ""


def _rest(comparison: Comparison) -> Iterator[str]:
    labels = [run.label for run in comparison.runs]
    yield "## Cost"
    yield ""
    yield from _table(("", *labels), ((row.title, *row.values) for row in cost_rows(comparison)))
    yield "## Settings that differ"
    yield ""
    yield f"{comparison.num_equal} settings are equal in all runs."
    yield ""
    yield from _settings(labels, comparison.differences)
    yield "## Circumstances that differ"
    yield ""
    yield from _settings(labels, comparison.circumstances)


def _settings(labels: Sequence[str], rows: Sequence[SettingDifference]) -> Iterator[str]:
    if not rows:
        yield "None."
        yield ""
        return
    yield from _table(("", *labels), ((one.key, *map(compare_words.setting, one.values)) for one in rows))


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(map(_escaped, headings))} |"
    yield f"|{'---|' * len(headings)}"
    yield from (f"| {' | '.join(map(_escaped, row))} |" for row in rows)
    yield ""


def _escaped(text: str) -> str:
    """Returns text that no Markdown reader takes for a table's border, a tag or emphasis."""
    for sign in ("\\", "|", "<", "*", "_", "`"):
        text = text.replace(sign, f"\\{sign}")
    return text.replace("\n", " ")
