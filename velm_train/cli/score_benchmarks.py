"""`task=score` for published benchmarks: answers and the benchmark's own file in, tables and results.json out."""

from pathlib import Path
from typing import cast

from velm_train.backbones.sentence_encoder import load_sentence_encoder
from velm_train.cli.workshop import Workshop
from velm_train.core.benchmarks import MmadScores
from velm_train.core.hashing import sha256_file
from velm_train.instructions.formats.mmad_answers import read_mmad_answers
from velm_train.instructions.formats.visa_dr_answers import (
    MissingAnswers,
    read_detection_answers,
    read_reasoning_answers,
)
from velm_train.metrics.mmad import mmad_scores
from velm_train.metrics.visa_dr import visa_dr_detection_scores, visa_dr_reasoning_scores
from velm_train.reporting.benchmark_tables import (
    detection_table,
    mmad_averages_table,
    mmad_cells_table,
    reasoning_table,
)
from velm_train.reporting.score_files import (
    DetectionResults,
    MmadResults,
    ReasoningResults,
    ScoredFile,
    write_scores,
)

FLAG_WORDS = {
    "may_show_another_product": "images that may show another product than they say",
    "same_choice_twice": "two options that read the same",
    "letters_out_of_order": "letters that are not A, B, C, ... in this order",
}


def score_benchmark(shop: Workshop, path: Path, *, read_as: str) -> tuple[str, ...]:
    """Scores answers to MMAD or VisA-D&R; returns sentences that a reader of the figures must not miss.

    Raises:
        VelmError: naming the record or setting that cannot be used.
    """
    assert shop.config.score.truth is not None
    truth = Path(shop.config.score.truth).expanduser()
    if read_as == "mmad":
        return _mmad(shop, path, truth)
    if read_as == "visa_dr_detection":
        return _detection(shop, path, truth)
    return _reasoning(shop, path, truth)


def _scored(path: Path, read_as: str, notes: tuple[str, ...]) -> ScoredFile:
    return ScoredFile(name=path.name, sha256=sha256_file(path), file_format=read_as, notes=notes)


def _mmad(shop: Workshop, path: Path, truth: Path) -> tuple[str, ...]:
    given = read_mmad_answers(path, questions=truth)
    scores = mmad_scores(
        given.answers, given.unanswered, num_bootstrap=shop.config.evaluation.bootstrap, seed=shop.config.seed
    )
    notes = mmad_notes(scores, num_unasked=len(given.images_without_questions))
    _write(shop, MmadResults(scored=_scored(path, "mmad", notes), scores=scores))
    shop.console.print(mmad_cells_table(scores))
    shop.console.print(mmad_averages_table(scores))
    return notes


def mmad_notes(scores: MmadScores, *, num_unasked: int) -> tuple[str, ...]:
    """Returns what the two columns do not say by themselves.

    Args:
        scores: the figures.
        num_unasked: images about which the benchmark asks nothing.
    """
    unparsed = sum(cell.num_unparsed for cell in scores.cells)
    unanswered = sum(cell.num_unanswered for cell in scores.cells)
    notes = [
        f"Wrong in the strict figures: {unparsed} questions whose answer names no option, {unanswered} without answer."
    ]
    if scores.official_removed:
        notes.append(
            f"MMAD's scorer removes {scores.official_removed} answers that are no letter from A to E, and passes over "
            f"{scores.official_skipped} that stand behind them, whatever they say."
        )
    notes += [f"{count} questions are flagged: {FLAG_WORDS[flag]}." for flag, count in scores.num_flagged.items()]
    if scores.num_in_other_order:
        notes.append(f"{scores.num_in_other_order} questions were asked in another order of options, or in several.")
    else:
        notes.append("Options were never permuted: a preference for a letter is part of every figure.")
    if num_unasked:
        notes.append(f"{num_unasked} images have no question in mmad.json.")
    return tuple(notes)


def _detection(shop: Workshop, path: Path, truth: Path) -> tuple[str, ...]:
    missing = cast("MissingAnswers", shop.config.score.missing)
    answers = read_detection_answers(path, truth=truth, missing=missing)
    scores = visa_dr_detection_scores(answers, num_bootstrap=shop.config.evaluation.bootstrap, seed=shop.config.seed)
    notes = (f"{scores.num_unparsed} of {scores.num_images} answers are neither yes nor no: wrong in the strict rows.",)
    _write(shop, DetectionResults(scored=_scored(path, "visa_dr_detection", notes), scores=scores))
    shop.console.print(detection_table(scores))
    return notes


def _reasoning(shop: Workshop, path: Path, truth: Path) -> tuple[str, ...]:
    config = shop.config
    missing = cast("MissingAnswers", config.score.missing)
    answers = read_reasoning_answers(path, truth=truth, missing=missing)
    encoder = None if config.score.sentence_model is None else load_sentence_encoder(config.score.sentence_model)
    scores = visa_dr_reasoning_scores(
        answers,
        encode=None if encoder is None else encoder.encode,
        sentence_model="" if encoder is None else encoder.name,
        num_bootstrap=config.evaluation.bootstrap,
        seed=config.seed,
    )
    notes = (
        f"{scores.num_empty} of {scores.num_answers} answers are empty and count as 0.",
        "The published figures name neither their sentence model nor how they average; GPT-Score cannot be made again.",
    )
    _write(shop, ReasoningResults(scored=_scored(path, "visa_dr_reasoning", notes), scores=scores))
    shop.console.print(reasoning_table(scores))
    return notes


def _write(shop: Workshop, results: MmadResults | DetectionResults | ReasoningResults) -> None:
    assert shop.run_folder is not None
    write_scores(results, shop.run_folder / "results.json")
