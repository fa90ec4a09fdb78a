"""Answers to published benchmarks as they were given, and the figures they earn: MMAD and VisA-D&R.

file of answers -> instructions/formats/ -> ChoiceAnswer, YesNoAnswer, WrittenAnswer -> metrics/ -> scores -> reporting/
"""

from collections.abc import Mapping
from dataclasses import dataclass

from velm_train.core.scores import Score

DETECTION_SUBTASK = "Anomaly Detection"
"""MMAD's subtask whose score is the mean over normal and anomalous images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChoiceAnswer:
    """One answer to one MMAD question, as it was asked.

    Attributes:
        where: the place in the file of answers; "" for a question that nobody answered.
        image: path as the benchmark has it.
        number: place among the image's questions, from 1.
        dataset: first folder of the path.
        subtask: the name under which MMAD scores the question.
        shows_normal: True if the path goes through a folder `good`.
        options: letter -> text, in the order asked.
        gt_letter: letter of the right option in this order.
        said: the letter or text given; "" if nothing was.
        response: the model's words if the file has them beside the letter made of them, else None.
        in_file_order: False if the options were asked in another order than the benchmark's.
        flags: why the question is not to be trusted.
    """

    where: str
    image: str
    number: int
    dataset: str
    subtask: str
    shows_normal: bool
    options: Mapping[str, str]
    gt_letter: str
    said: str
    response: str | None
    in_file_order: bool
    flags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class MmadCell:
    """One subtask of one data set.

    Attributes:
        official: what MMAD's own scorer gives; None if it has no such cell.
        strict: the share of questions answered right; for anomaly detection the mean over normal and anomalous images.
        num_questions: of the benchmark.
        num_unparsed: questions with an answer that names no option.
        num_unanswered: questions without any answer.
    """

    dataset: str
    subtask: str
    official: float | None
    strict: Score
    num_questions: int
    num_unparsed: int
    num_unanswered: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetScore:
    """Mean over the subtasks of one data set."""

    dataset: str
    official: float | None
    strict: Score


@dataclass(frozen=True, kw_only=True, slots=True)
class SubtaskScore:
    """Mean over the data sets of one subtask."""

    subtask: str
    official: float | None
    strict: Score


@dataclass(frozen=True, kw_only=True, slots=True)
class LetterShare:
    """How often a letter was given, and how often it was right, over all answers as asked."""

    letter: str
    given: float
    right: float


@dataclass(frozen=True, kw_only=True, slots=True)
class MmadScores:
    """MMAD's own figures and strict ones, side by side; fractions, not percent.

    Attributes:
        cells: one a data set and subtask, in order of both names.
        official_average: unweighted mean over data sets, as published; None if its scorer finds no answer.
        strict_macro: the same mean, of strict cells; cells without questions are left out.
        strict_micro: the share of all questions answered right.
        strict_macro_trusted: strict_macro without flagged questions.
        official_removed: answers that MMAD's scorer removes because they are no letter from A to E.
        official_skipped: answers behind those, which it passes over because it removes while it iterates.
        num_flagged: reason -> questions.
        num_in_other_order: questions asked in another order than the benchmark's, or in several.
        same_choice: among questions asked in several orders, the share whose answers all mean one option.
        letters: position bias.
    """

    cells: tuple[MmadCell, ...]
    datasets: tuple[DatasetScore, ...]
    subtasks: tuple[SubtaskScore, ...]
    official_average: float | None
    strict_macro: Score
    strict_micro: Score
    strict_macro_trusted: Score
    official_removed: int
    official_skipped: int
    num_flagged: dict[str, int]
    num_in_other_order: int
    same_choice: Score
    letters: tuple[LetterShare, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class YesNoAnswer:
    """One answer to "is there an anomaly?"; `said` is "" if nothing was."""

    image: str
    category: str
    gt_label: bool
    said: str


@dataclass(frozen=True, kw_only=True, slots=True)
class YesNoScores:
    """Four figures of one way to read the answers."""

    accuracy: Score
    precision: Score
    recall: Score
    f1: Score


@dataclass(frozen=True, kw_only=True, slots=True)
class VisaDrDetectionScores:
    """VisA-D&R detection.

    Attributes:
        published: an answer is "yes" if it holds "Yes" or "yes" anywhere; means over classes of per-class figures.
        strict: an answer is its first word, which must be yes or no; anything else is wrong. Means over classes.
        strict_pooled: the same over all images at once.
        always_yes: means over classes of a system that always says yes.
        num_unparsed: answers that are neither yes nor no.
    """

    num_images: int
    num_categories: int
    published: YesNoScores
    strict: YesNoScores
    strict_pooled: YesNoScores
    always_yes: YesNoScores
    num_unparsed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenAnswer:
    """One answer in words beside the reference.

    Attributes:
        number: place of the question in the conversation, from 1; the first is about the defect itself.
        published: False for categories that the published script passes over.
    """

    image: str
    category: str
    number: int
    reference: str
    said: str
    published: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class WordsScores:
    """Likeness of answers and references, as means over classes and over all answers.

    Attributes:
        rouge_l: ROUGE-L F-measure.
        similarity: cosine of the embeddings; without a value where no model was named.
    """

    rouge_l: Score
    rouge_l_pooled: Score
    similarity: Score
    similarity_pooled: Score


@dataclass(frozen=True, kw_only=True, slots=True)
class VisaDrReasoningScores:
    """VisA-D&R reasoning over the classes of the published figures, and over all classes.

    Attributes:
        low_level: the first question, which asks to describe the defect.
        complex: all others, about cause and effect.
        sentence_model: whose embeddings were compared; "" if none.
    """

    low_level: WordsScores
    complex: WordsScores
    low_level_all: WordsScores
    complex_all: WordsScores
    num_answers: int
    num_empty: int
    sentence_model: str
