"""`task=score`: a file of predictions in, figures on the terminal and in the run folder out; no model is run."""

from collections.abc import Sequence
from pathlib import Path

from velm_train.cli.score_benchmarks import score_benchmark
from velm_train.cli.score_inputs import NamingInput, file_format, read_naming
from velm_train.cli.workshop import Workshop
from velm_train.config.scoring import BENCHMARK_FORMATS
from velm_train.core.errors import DataError
from velm_train.core.hashing import sha256_file
from velm_train.core.published import LabelledAnswer
from velm_train.core.records import Prediction
from velm_train.metrics.published import published_scores
from velm_train.metrics.scoreboard import System, make_scoreboard
from velm_train.metrics.system import (
    MAJORITY_ROW,
    PERFECT_GATE_ROW,
    majority_predictions,
    perfect_gate_majority_predictions,
)
from velm_train.reporting.manifest import collect_manifest
from velm_train.reporting.predictions import write_predictions
from velm_train.reporting.results import Results, write_results
from velm_train.reporting.score_files import NamingScores, PublishedRow, ScoredFile, write_scores
from velm_train.reporting.score_tables import published_table
from velm_train.reporting.terminal import scoreboard_table


def score_predictions(shop: Workshop) -> None:
    """Scores `predictions` and prints the tables.

    Raises:
        VelmError: naming the row, file or setting that cannot be used.
    """
    config = shop.config
    assert shop.run_folder is not None
    assert config.predictions is not None
    path = Path(config.predictions).expanduser()
    if not path.is_file():
        raise DataError(f"predictions={path} is no file; give predictions.jsonl, a CSV or a JSON file")
    read_as = file_format(config, path)
    if read_as in BENCHMARK_FORMATS:
        notes = score_benchmark(shop, path, read_as=read_as)
    else:
        notes = _score_naming(shop, path, read_as=read_as)
    for note in notes:
        shop.progress.note(note)
    shop.console.print(f"results: {shop.run_folder / 'results.json'}", highlight=False, soft_wrap=True)


def _score_naming(shop: Workshop, path: Path, *, read_as: str) -> tuple[str, ...]:
    assert shop.run_folder is not None
    with shop.stage("read"):
        given = read_naming(shop.config, path, read_as=read_as)
    with shop.stage("score"):
        systems = _systems(given)
        scoreboard = make_scoreboard(
            systems,
            label_sets=given.label_sets,
            num_bootstrap=shop.config.evaluation.bootstrap,
            seed=shop.config.seed,
            unknown_types=given.unknown_types,
        )
        rows = tuple(_published_row(shop, given, system) for system in systems)
    notes = tuple(dict.fromkeys([*given.notes, *(note for one in given.systems.values() for note in one.notes)]))
    for number, fitted in enumerate(given.systems.values()):
        name = "predictions.jsonl" if number == 0 else "predictions_label_keys_repaired.jsonl"
        write_predictions(fitted.predictions, shop.run_folder / name)
    scored = ScoredFile(name=path.name, sha256=sha256_file(path), file_format=read_as, notes=notes)
    write_scores(NamingScores(scored=scored, rows=rows), shop.run_folder / "published.json")
    manifest = collect_manifest(
        shop.meter,
        seeds={"run": shop.config.seed},
        hashes={"predictions": scored.sha256},
        accelerators=(),
        project_folder=Path(__file__).resolve().parents[2],
    )
    write_results(Results(scoreboard=scoreboard, manifest=manifest), shop.run_folder / "results.json")
    shop.console.print(scoreboard_table(scoreboard))
    shop.console.print(published_table(rows, scoreboard))
    return notes


def _systems(given: NamingInput) -> list[System]:
    """Returns the file as it is, its repaired reading if there is one, and the trivial rows."""
    rows = next(iter(given.systems.values())).predictions
    trivial = {
        PERFECT_GATE_ROW: perfect_gate_majority_predictions(rows, label_sets=given.label_sets),
        MAJORITY_ROW: majority_predictions(rows, label_sets=given.label_sets),
    }
    return [
        *(System(name=name, predictions=fitted.predictions) for name, fitted in given.systems.items()),
        *(System(name=name, predictions=found, trivial=True) for name, found in trivial.items()),
    ]


def _published_row(shop: Workshop, given: NamingInput, system: System) -> PublishedRow:
    """Scores what was said in words, which for a trivial row are the types themselves."""
    answers = _as_answers(system.predictions) if system.trivial else given.systems[system.name].answers
    scores = published_scores(answers, num_bootstrap=shop.config.evaluation.bootstrap, seed=shop.config.seed)
    return PublishedRow(name=system.name, scores=scores)


def _as_answers(rows: Sequence[Prediction]) -> tuple[LabelledAnswer, ...]:
    return tuple(
        LabelledAnswer(
            image_id=row.image_id,
            category=row.category,
            gt_label=row.gt_defect_type or "",
            pred_label=row.pred_defect_type or "",
        )
        for row in rows
    )
