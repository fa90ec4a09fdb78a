"""Parts of a comparison go in, the words and numbers that people read come out; all three pages share them."""

from velm_train.core.comparison import (
    ComparedRun,
    Comparison,
    PairedTest,
    RunPair,
    SeedGroup,
    Spread,
    Sweep,
    SweepRow,
    UnfinishedJob,
)
from velm_train.core.scores import Score
from velm_train.reporting import words
from velm_train.reporting.compare_figures import RECALL, score_of

LEVEL = 0.05
"""Corrected p-values below this are said to differ."""

MAX_VALUE_CHARACTERS = 60


def figure(score: Score) -> str:
    """Returns a figure in percent with its interval."""
    ends = words.interval(score)
    return f"{words.percent(score.value)} [{ends}]" if ends else words.percent(score.value)


def difference(score: Score) -> str:
    """Returns a difference in points with its interval."""
    ends = words.signed_interval(score)
    return f"{words.signed_points(score.value)} [{ends}]" if ends else words.signed_points(score.value)


def better_run(pair: RunPair, test: PairedTest) -> tuple[str, str] | None:
    """Returns (better, worse) of a pair by images named right, or None if chance may explain it."""
    if test.adjusted_p_value >= LEVEL:
        return None
    other_is_better = test.paired.num_only_other_right > test.paired.num_only_first_right
    return (pair.other, pair.first) if other_is_better else (pair.first, pair.other)


def verdict(pair: RunPair, test: PairedTest) -> str:
    """Says in a few words which run of a pair is right on more images, if that is no chance."""
    found = better_run(pair, test)
    return "no difference shown" if found is None else f"{found[0]} is right more often"


def spread(value: Spread | None, *, num_runs: int) -> str:
    """Returns mean and standard deviation in percent, with their number where it is not that of the group's runs."""
    if value is None:
        return words.ABSENT
    deviation = "" if value.std is None else f" \N{PLUS-MINUS SIGN} {words.percent(value.std)}"
    number = "" if value.n == num_runs else f" (n = {value.n})"
    return f"{words.percent(value.mean)}{deviation}{number}"


def setting(value: str | None) -> str:
    """Returns a setting as it is written on the command line, shortened; a dash where a run does not have it."""
    if value is None:
        return words.ABSENT
    text = value.strip('"')
    return text if len(text) <= MAX_VALUE_CHARACTERS else f"{text[: MAX_VALUE_CHARACTERS - 3]}..."


def name(run: ComparedRun) -> str:
    """Returns a run's name with what must be said beside its figures."""
    return f"{run.name} [{', '.join(run.marks)}]" if run.marks else run.name


def seed_group(group: SeedGroup) -> str:
    """Returns which runs a group holds, with their seeds."""
    return f"{', '.join(group.labels)} (seeds {', '.join(map(str, group.seeds))})"


def group_spread(group: SeedGroup, key: str) -> str:
    """Returns one figure's spread over a group's runs."""
    return spread(group.figures[key] if key in group.figures else None, num_runs=len(group.labels))


def matched(pair: RunPair) -> str:
    """Says how many images two runs share, and how many each has alone."""
    match = pair.match
    if match is None:
        return words.ABSENT
    parts = [
        (match.num_only_first, f"only in {pair.first}"),
        (match.num_only_other, f"only in {pair.other}"),
        (match.num_changed, "of the same name but another content"),
        (match.num_relabelled, "with another true type"),
    ]
    others = [f"{number} {text}" for number, text in parts if number]
    return ", ".join([f"{match.num_shared} shared", *others])


def headline(comparison: Comparison) -> str:
    """Says what was compared and what the tests found, in a sentence or two."""
    tests = [(pair, test) for pair in comparison.pairs for test in pair.tests[:1]]
    parts = [f"{len(comparison.runs)} runs"]
    matches = [pair.match for pair in comparison.pairs]
    if matches and all(match is not None and match.is_complete for match in matches):
        recalls = {run.label: score_of(run, RECALL) for run in comparison.runs}
        values = [score.value for score in recalls.values() if score.value is not None]
        highest = max(values, default=None)
        best = [label for label, score in recalls.items() if score.value is not None and score.value == highest]
        if len(best) == 1:
            parts.append(f"highest end-to-end balanced recall: {best[0]} with {figure(recalls[best[0]])} %")
    if not tests:
        return "; ".join([*parts, "no pair could be tested on shared images"]) + "."
    found = [f"{one[0]} is right more often than {one[1]}" for pair, test in tests if (one := better_run(pair, test))]
    if len(found) > 3:
        return "; ".join([*parts, f"{len(found)} of {len(tests)} pairs differ"]) + "."
    return "; ".join([*parts, *(found or ["no pair differs by more than chance explains"])]) + "."


def sweep_row(row: SweepRow) -> str:
    """Returns a sweep's mean over seeds in percent with its interval."""
    if row.mean is None:
        return words.ABSENT
    if row.low is None or row.high is None:
        return words.percent(row.mean)
    return f"{words.percent(row.mean)} [{words.percent(max(0.0, row.low))}, {words.percent(min(1.0, row.high))}]"


def sweep_objective(sweep: Sweep) -> str:
    """Says what a sweep's rows are ordered by."""
    return f"end-to-end balanced recall of {sweep.objective} test images, in percent, mean over seeds with its interval"


def sweep_title(sweep: Sweep) -> str:
    """Returns the heading of a sweep."""
    number = len(sweep.rows)
    return f"Sweep {sweep.name}: {number} setting{'s' if number != 1 else ''} of {', '.join(sweep.keys) or 'nothing'}"


def unfinished_job(job: UnfinishedJob, sweep: Sweep) -> str:
    """Says what became of a job without a figure."""
    settings = " ".join(f"{key}={value}" for key, value in zip(sweep.keys, job.settings, strict=True))
    return f"{job.state}{f': {job.reason}' if job.reason else ''}{f' ({settings})' if settings else ''}"
