"""Parts of a comparison go in, the sentences that a reader must not miss come out."""

from collections.abc import Mapping, Sequence

from velm_train.core.comparison import ComparedRun, RunPair, SeedGroup, SkippedFolder, Sweep
from velm_train.reporting.compare_words import matched

MAX_NAMED = 5
"""Pairs and folders that are named one by one; the pages hold all."""

_WITH_FIGURE = ("finished",)
"""States of jobs that have a figure, and are not compared because nobody has named them."""


def comparison_notices(
    runs: Sequence[ComparedRun],
    pairs: Sequence[RunPair],
    groups: Sequence[SeedGroup],
    skipped: Sequence[SkippedFolder],
    *,
    sweeps: Sequence[Sweep],
    circumstances: Sequence[str],
    remarks: Mapping[str, str],
) -> tuple[str, ...]:
    """Returns the notices, what touches the tests first.

    Args:
        runs: every run.
        pairs: every pair that has predictions.
        groups: runs that are equal but for the seed.
        skipped: folders that are not compared.
        sweeps: whose jobs the runs are.
        circumstances: names of the circumstances that differ.
        remarks: label of a run -> what to know about its files, or "".
    """
    return (
        *_about_runs(runs, remarks),
        *_about_pairs(pairs),
        *_about_groups(groups),
        *_about_sweeps(sweeps),
        *_about_circumstances(circumstances),
        *_about_skipped(skipped),
    )


def _about_runs(runs: Sequence[ComparedRun], remarks: Mapping[str, str]) -> list[str]:
    notices = [
        f"{run.label}: {', '.join(run.marks)}; its figures are not those of a working system."
        for run in runs
        if run.marks
    ]
    apart = [run.label for run in runs if run.source == "W&B folder"]
    if apart:
        notices.append(
            f"{', '.join(apart)}: from a W&B folder, which holds no predictions: figures without intervals, no tests."
        )
    said = dict.fromkeys(remark for remark in remarks.values() if remark)
    return notices + [f"{', '.join(one for one in remarks if remarks[one] == remark)}: {remark}." for remark in said]


def _about_pairs(pairs: Sequence[RunPair]) -> list[str]:
    partial = [pair for pair in pairs if pair.note]
    sentences = [f"{pair.other} against {pair.first}: {pair.note} ({matched(pair)})." for pair in partial]
    return _first_ones(sentences, "{} more pairs do not have all images in common.")


def _about_groups(groups: Sequence[SeedGroup]) -> list[str]:
    return [
        f"{', '.join(group.repeats)}: further runs of a seed that counts already ({', '.join(group.labels)}); not part "
        "of the mean over seeds."
        for group in groups
        if group.repeats
    ]


def _about_sweeps(sweeps: Sequence[Sweep]) -> list[str]:
    notices = []
    for sweep in sweeps:
        others = [job for job in sweep.unfinished if job.state in _WITH_FIGURE]
        if others:
            jobs = "one further job has" if len(others) == 1 else f"{len(others)} further jobs have"
            notices.append(f"Sweep {sweep.name}: {jobs} finished and not been named to compare.")
        states = [job.state for job in sweep.unfinished if job.state not in _WITH_FIGURE]
        if states:
            counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
            notices.append(f"Sweep {sweep.name}: jobs without a figure: {counts}; the sweep's table names each.")
        few = [row for row in sweep.rows if len(row.values) == 1]
        if few and len(sweep.rows) > 1:
            notices.append(
                f"Sweep {sweep.name}: {len(few)} of {len(sweep.rows)} settings were run with one seed; their order may "
                "be that of chance."
            )
    return notices


def _about_circumstances(circumstances: Sequence[str]) -> list[str]:
    notices = []
    if "commit" in circumstances:
        notices.append("The runs are of different versions of this program; see the circumstances.")
    if {"machine", "accelerators"} & set(circumstances):
        notices.append("The runs are of different machines: seconds and memory cannot be compared.")
    return notices


def _about_skipped(skipped: Sequence[SkippedFolder]) -> list[str]:
    sentences = [f"Not compared: {one.folder} ({one.reason})." for one in skipped]
    return _first_ones(sentences, "{} more folders are not compared.")


def _first_ones(sentences: list[str], rest: str) -> list[str]:
    """Returns a few sentences, and one that counts the others."""
    num_more = len(sentences) - MAX_NAMED
    return [*sentences[:MAX_NAMED], rest.format(num_more)] if num_more > 0 else sentences
