"""`task=compare`: finished runs in; tables on the terminal, comparison.json, .md and .html, and W&B tables out."""

import string
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np

from velm_train.cli.compare_read import FinishedRun
from velm_train.cli.compare_runs import find_finished_runs
from velm_train.cli.compare_sweeps import find_sweeps, is_job_of
from velm_train.cli.tracking import logged
from velm_train.cli.workshop import Workshop
from velm_train.core.artifacts import write_atomic
from velm_train.core.comparison import ComparedRun, Comparison, SeedGroup, SkippedFolder
from velm_train.core.errors import ArtifactError
from velm_train.metrics.paired import RunAnswers, compare_pairs
from velm_train.metrics.seeds import spreads
from velm_train.metrics.system import end_to_end_values
from velm_train.metrics.table import make_table
from velm_train.reporting.compare_config import SEED_KEY, differences, equal_but_for_seed, flatten, is_circumstance
from velm_train.reporting.compare_figures import (
    cost_of,
    cost_of_summary,
    curve_of,
    facts_of,
    figures_of,
    figures_of_summary,
)
from velm_train.reporting.compare_file import write_comparison
from velm_train.reporting.compare_markdown import render_markdown
from velm_train.reporting.compare_notices import comparison_notices
from velm_train.reporting.compare_page import render_compare_page
from velm_train.reporting.compare_tables import terminal_tables, wandb_tables
from velm_train.reporting.compare_words import headline
from velm_train.training.loggers import log_table

TOLERANCE = 1e-9
"""Largest gap between a stored figure and the same figure computed again from the rows."""


def compare_task(shop: Workshop) -> None:
    """Compares the runs named by `runs`, writes the pages and logs the tables.

    Raises:
        DataError: if a folder is absent, or fewer than two finished runs are found.
        ArtifactError: if a run cannot be read, or its files do not belong together.
    """
    assert shop.run_folder is not None
    config = shop.config
    with shop.stage("read runs"):
        runs, skipped = find_finished_runs(config.runs, apart=shop.run_folder)
        shop.progress.note(f"comparing {len(runs)} finished runs")
    with shop.stage("compare"):
        comparison = make_comparison(
            runs,
            skipped,
            title=config.name,
            only_first=config.compare.pairs == "first",
            num_bootstrap=config.evaluation.bootstrap,
            seed=config.seed,
        )
    write_comparison(comparison, shop.run_folder / "comparison.json")
    write_atomic(shop.run_folder / "comparison.md", render_markdown(comparison))
    write_atomic(shop.run_folder / "comparison.html", render_compare_page(comparison))
    _log(shop, comparison)
    for notice in comparison.notices:
        shop.progress.note(notice)
    for table in terminal_tables(comparison):
        shop.console.print(table)
    shop.console.print(headline(comparison), highlight=False, markup=False)
    shop.console.print(f"comparison: {shop.run_folder / 'comparison.html'}", highlight=False, soft_wrap=True)


def make_comparison(
    runs: Sequence[FinishedRun],
    skipped: Sequence[SkippedFolder],
    *,
    title: str,
    only_first: bool,
    num_bootstrap: int,
    seed: int,
) -> Comparison:
    """Puts finished runs side by side.

    Args:
        runs: two or more, in the order of the columns.
        skipped: what was found beside them.
        title: of the pages.
        only_first: whether to test every run against the first one alone.
        num_bootstrap: resamples for the interval of each difference.
        seed: root seed of the resampling.

    Raises:
        ArtifactError: if the figures of a run are not those of its rows.
        DataError: if rows do not fit their label lists.
    """
    labels = [run_label(i) for i in range(len(runs))]
    for run in runs:
        _check_figures(run)
    tested = [_tested(label, run) for label, run in zip(labels, runs, strict=True) if run.results is not None]
    pairs = compare_pairs(tested, only_first=only_first, num_bootstrap=num_bootstrap, seed=seed)
    compared = tuple(
        _compared(label, name, run)
        for label, name, run in zip(labels, short_names([run.folder for run in runs]), runs, strict=True)
    )
    settings = [{k: v for k, v in run.settings.items() if not is_circumstance(k)} for run in runs]
    differing, num_equal = differences(settings)
    circumstances, _ = differences([_circumstances(run) for run in runs])
    groups = _seed_groups(runs, compared)
    sweeps = find_sweeps(runs, compared)
    apart = [one for one in skipped if not is_job_of(sweeps, Path(one.folder))]
    return Comparison(
        title=title,
        runs=compared,
        differences=differing,
        num_equal=num_equal,
        circumstances=circumstances,
        pairs=pairs,
        seed_groups=groups,
        sweeps=sweeps,
        skipped=tuple(apart),
        notices=comparison_notices(
            compared,
            pairs,
            groups,
            apart,
            sweeps=sweeps,
            circumstances=[one.key for one in circumstances if len({*one.values} - {None}) > 1],
            remarks={label: _remarks(run) for label, run in zip(labels, runs, strict=True) if run.results},
        ),
        num_bootstrap=num_bootstrap,
        seed=seed,
    )


def run_label(position: int) -> str:
    """Returns A to Z, then AA, AB and so on."""
    letters = string.ascii_uppercase
    label = letters[position % len(letters)]
    return label if position < len(letters) else run_label(position // len(letters) - 1) + label


def short_names(folders: Sequence[Path]) -> list[str]:
    """Returns the shortest ends of the paths, two parts or more, that tell them apart."""
    paths = [folder.resolve() for folder in folders]
    longest = max(len(path.parts) for path in paths)
    for num_parts in range(2, longest + 1):
        names = ["/".join(path.parts[-num_parts:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


def _check_figures(run: FinishedRun) -> None:
    """Refuses a run whose results.json was not made from its predictions.jsonl."""
    if run.results is None:
        return
    stored = run.results.stored_recall
    tested = _tested("", run)
    table = make_table(tested.predictions, label_sets=tested.label_sets, unknown_types=tested.unknown_types)
    again = float(end_to_end_values(table, np.ones((1, len(table))))[0])
    if stored is None if np.isnan(again) else stored is not None and abs(again - stored) < TOLERANCE:
        return
    raise ArtifactError(
        f"{run.folder}: end-to-end balanced recall is {stored} in results.json, but {again:.6g} from "
        "predictions.jsonl; the files are not of one run, score the run again"
    )


def _tested(label: str, run: FinishedRun) -> RunAnswers:
    assert run.results is not None
    hashes = run.results.manifest.hashes
    return RunAnswers(
        label=label,
        predictions=run.predictions,
        label_sets=run.results.label_sets,
        unknown_types={} if run.split is None else run.split.unknown_types,
        contents=None if run.split is None else run.split.contents,
        split_hash=hashes["split"] if "split" in hashes else "",
    )


def _compared(label: str, name: str, run: FinishedRun) -> ComparedRun:
    seed = run.settings[SEED_KEY] if SEED_KEY in run.settings else ""
    marks: tuple[str, ...] = ()
    if run.results is None:
        figures, cost = figures_of_summary(run.wandb[-1]), cost_of_summary(run.wandb[-1])
    else:
        scores = run.results.scores
        figures, cost = figures_of(scores), cost_of(scores, run.results.manifest)
        marks = tuple(f"gate: {policy}" for policy in scores.gate_policies if policy != "detector")
    return ComparedRun(
        label=label,
        name=name,
        folder=str(run.folder),
        source="W&B folder" if run.results is None else "run folder",
        seed=int(seed) if seed.isdecimal() else None,
        num_images=len(run.predictions),
        marks=marks,
        scores=figures,
        cost=cost,
        curve=curve_of(run.wandb),
    )


def _remarks(run: FinishedRun) -> str:
    older = run.results is not None and run.results.made_again
    again = "results.json is of an older version: its figures were made again from predictions.jsonl" if older else ""
    return "; ".join(filter(None, [again, run.split_problem]))


def _circumstances(run: FinishedRun) -> dict[str, str]:
    places = {key: value for key, value in run.settings.items() if is_circumstance(key)}
    return places | ({} if run.results is None else flatten(facts_of(run.results.manifest)))


def _seed_groups(runs: Sequence[FinishedRun], compared: Sequence[ComparedRun]) -> tuple[SeedGroup, ...]:
    """Returns the groups of two seeds or more; of several runs of one seed the first one counts."""
    groups = []
    for positions in equal_but_for_seed([run.settings for run in runs]):
        members = [compared[i] for i in positions if compared[i].seed is not None]
        first: dict[int, ComparedRun] = {}
        for run in members:
            first.setdefault(cast("int", run.seed), run)
        if len(first) < 2:
            continue
        counted = [first[seed] for seed in sorted(first)]
        groups.append(
            SeedGroup(
                labels=tuple(run.label for run in counted),
                seeds=tuple(sorted(first)),
                repeats=tuple(run.label for run in members if run not in counted),
                figures=spreads([run.scores for run in counted]),
            )
        )
    return tuple(groups)


def _log(shop: Workshop, comparison: Comparison) -> None:
    with logged(shop) as loggers:
        for table in wandb_tables(comparison):
            log_table(loggers, name=f"comparison/{table.name}", columns=table.columns, rows=table.rows)
