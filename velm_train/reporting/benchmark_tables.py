"""Figures of MMAD and VisA-D&R go in; tables for the terminal come out, in percent with 95 % intervals."""

from rich.table import Table

from velm_train.core.benchmarks import (
    MmadScores,
    VisaDrDetectionScores,
    VisaDrReasoningScores,
    WordsScores,
    YesNoScores,
)
from velm_train.reporting import words
from velm_train.reporting.score_tables import figure


def mmad_cells_table(scores: MmadScores) -> Table:
    """Returns every subtask of every data set, MMAD's own figure beside the strict one."""
    table = Table(title="MMAD by data set and subtask")
    table.add_column("data set")
    table.add_column("subtask")
    for name in ("official", "strict", "questions", "unparsed", "no answer"):
        table.add_column(name, justify="right", no_wrap=True)
    for cell in scores.cells:
        table.add_row(
            cell.dataset,
            cell.subtask,
            words.percent(cell.official),
            figure(cell.strict),
            f"{cell.num_questions}",
            f"{cell.num_unparsed}",
            f"{cell.num_unanswered}",
        )
    return table


def mmad_averages_table(scores: MmadScores) -> Table:
    """Returns the means over cells, and what a preference for letters does."""
    letters = ", ".join(
        f"{one.letter} {words.percent(one.given)} ({words.percent(one.right)})" for one in scores.letters
    )
    table = Table(title="MMAD, means", caption=f"letters given, and in brackets how often they are right: {letters}")
    table.add_column("over")
    table.add_column("official", justify="right")
    table.add_column("strict", justify="right", no_wrap=True)
    table.add_column("questions", justify="right")
    for one in scores.subtasks:
        table.add_row(one.subtask, words.percent(one.official), figure(one.strict), f"{one.strict.n}")
    table.add_section()
    for dataset in scores.datasets:
        table.add_row(dataset.dataset, words.percent(dataset.official), figure(dataset.strict), f"{dataset.strict.n}")
    table.add_section()
    rows = (
        ("macro: data sets, then subtasks", words.percent(scores.official_average), scores.strict_macro),
        ("macro without flagged questions", words.ABSENT, scores.strict_macro_trusted),
        ("micro: all questions", words.ABSENT, scores.strict_micro),
        ("same option in every order", words.ABSENT, scores.same_choice),
    )
    for name, official, strict in rows:
        table.add_row(name, official, figure(strict), f"{strict.n}")
    return table


def detection_table(scores: VisaDrDetectionScores) -> Table:
    """Returns VisA-D&R detection, read as published and strictly, beside a system that always says yes."""
    table = Table(title=f"VisA-D&R detection, {scores.num_images} images of {scores.num_categories} classes")
    table.add_column("read and averaged", max_width=30)
    for name in ("accuracy", "precision", "recall", "F1"):
        table.add_column(name, justify="right", no_wrap=True)
    rows: tuple[tuple[str, YesNoScores], ...] = (
        ("as published, over classes", scores.published),
        ("strictly, over classes", scores.strict),
        ("strictly, pooled", scores.strict_pooled),
        ("always yes, over classes", scores.always_yes),
    )
    for name, row in rows:
        table.add_row(name, *(figure(score) for score in (row.accuracy, row.precision, row.recall, row.f1)))
    return table


def reasoning_table(scores: VisaDrReasoningScores) -> Table:
    """Returns VisA-D&R reasoning for the classes of the published figures and for all classes."""
    model = scores.sentence_model or "no model named"
    table = Table(title="VisA-D&R reasoning", caption=f"similarity: cosine of sentence embeddings, {model}")
    table.add_column("question, classes", max_width=30)
    for name in ("ROUGE-L\nover classes", "ROUGE-L\npooled", "similarity\nover classes", "similarity\npooled"):
        table.add_column(name, justify="right", no_wrap=True)
    rows: tuple[tuple[str, WordsScores], ...] = (
        ("defect, published classes", scores.low_level),
        ("cause and effect, published", scores.complex),
        ("defect, all classes", scores.low_level_all),
        ("cause and effect, all classes", scores.complex_all),
    )
    for name, row in rows:
        figures = (row.rouge_l, row.rouge_l_pooled, row.similarity, row.similarity_pooled)
        table.add_row(name, *(figure(score) for score in figures))
    return table
