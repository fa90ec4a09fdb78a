"""Answers to MMAD go in; strict figures with intervals come out, beside those of its published scorer.

Strict: an answer that names no option is wrong, a question without an answer is wrong, an answer is judged by the
meaning of its option, whatever the order. A question asked in several orders counts once, with the mean of its answers.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from velm_train.core.benchmarks import (
    DETECTION_SUBTASK,
    ChoiceAnswer,
    DatasetScore,
    LetterShare,
    MmadCell,
    MmadScores,
    SubtaskScore,
)
from velm_train.core.errors import DataError
from velm_train.core.scores import Score
from velm_train.metrics.intervals import Values, Weights, bootstrap_score, proportion, stratified_weights
from velm_train.metrics.mmad_official import OfficialScores, official_scores

_LETTER_FIRST = re.compile(r"(?:answer\s*:\s*)?\(?([A-Z])\)?\s*(?:[.:)]\s*(.*))?", re.IGNORECASE | re.DOTALL)

Cell = tuple[str, str]
"""Data set and subtask."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Question:
    """One question of the benchmark with the mean of its answers, 0..1."""

    image: str
    cell: Cell
    shows_normal: bool
    right: float
    unparsed: bool
    unanswered: bool
    num_orders: int
    choices: frozenset[str]
    in_file_order: bool
    flags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sums:
    """Right answers and questions of every image in every part: a cell, of detection apart for normal and anomalous.

    Attributes:
        parts: cell and whether it is normal images that count; one column each.
        right: sum of right answers, one row an image.
        count: number of questions, alike.
    """

    parts: tuple[tuple[Cell, bool], ...]
    right: Float[np.ndarray, "I P"]
    count: Float[np.ndarray, "I P"]

    def cell(self, weights: Weights, cell: Cell) -> Values:
        """Returns one cell's score: the mean over its parts that have questions."""
        columns = [i for i, (name, _) in enumerate(self.parts) if name == cell]
        right, count = weights @ self.right[:, columns], weights @ self.count[:, columns]
        drawn = count > 0  # a resample can miss the few images that have questions of a rare subtask
        means = np.where(drawn, right / np.where(drawn, count, 1), 0).sum(axis=1)
        return np.where(drawn.any(axis=1), means / np.maximum(drawn.sum(axis=1), 1), np.nan)

    def macro(self, weights: Weights, cells: Sequence[Cell]) -> Values:
        """Returns the mean over data sets of the mean over their cells."""
        names = dict.fromkeys(dataset for dataset, _ in cells)
        means = [np.mean([self.cell(weights, cell) for cell in cells if cell[0] == name], axis=0) for name in names]
        return np.asarray(np.mean(means, axis=0))

    def micro(self, weights: Weights) -> Values:
        """Returns the share of all questions answered right."""
        return np.asarray((weights @ self.right).sum(axis=1) / (weights @ self.count).sum(axis=1))


def parse_strictly(response: str, options: Mapping[str, str]) -> str | None:
    """Returns the letter that a response names, or None if it is not exactly one option.

    Allowed are the letter, with brackets, full stop or "Answer:" around it; the letter and the option's text; and the
    option's text alone, if no other option reads the same.
    """
    said = response.strip()
    found = _LETTER_FIRST.fullmatch(said)
    if found is not None and found.group(1).upper() in options:
        letter = found.group(1).upper()
        rest = found.group(2) or ""
        return letter if not rest.strip() or _as_read(rest) == _as_read(options[letter]) else None
    meant = [letter for letter, text in options.items() if _as_read(text) == _as_read(said)]
    return meant[0] if len(meant) == 1 else None


def mmad_scores(
    answers: Sequence[ChoiceAnswer], unanswered: Sequence[ChoiceAnswer], *, num_bootstrap: int, seed: int
) -> MmadScores:
    """Scores answers strictly and as MMAD does.

    Args:
        answers: in the order of the file.
        unanswered: the benchmark's questions that have none, each once.
        num_bootstrap: resamples of images for each interval, within data set and kind of image.
        seed: root seed.

    Raises:
        DataError: if there is no answer.
    """
    if not answers:
        raise DataError("there is no answer to score; at least one question must have one")
    official = official_scores(answers)
    strict = _Strict.of(_questions(answers, unanswered), num_bootstrap=num_bootstrap, seed=seed)
    trusted = [question for question in strict.questions if not question.flags]
    return MmadScores(
        cells=tuple(_cell(strict, official, cell) for cell in strict.cells),
        datasets=tuple(
            DatasetScore(
                dataset=name,
                official=official.datasets[name] if name in official.datasets else None,
                strict=strict.macro([cell for cell in strict.cells if cell[0] == name]),
            )
            for name in sorted({name for name, _ in strict.cells})
        ),
        subtasks=tuple(
            SubtaskScore(
                subtask=name,
                official=official.subtasks[name] if name in official.subtasks else None,
                strict=strict.macro([cell for cell in strict.cells if cell[1] == name]),
            )
            for name in sorted({name for _, name in strict.cells})
        ),
        official_average=official.average,
        strict_macro=strict.macro(strict.cells),
        strict_micro=strict.score(strict.sums.micro, strict.questions),
        strict_macro_trusted=_macro_of(trusted, num_bootstrap=num_bootstrap, seed=seed),
        official_removed=official.num_removed,
        official_skipped=official.num_skipped,
        num_flagged=dict(sorted(Counter(flag for question in strict.questions for flag in question.flags).items())),
        num_in_other_order=sum(one.num_orders > 1 or not one.in_file_order for one in strict.questions),
        same_choice=proportion(
            np.array([len(one.choices) == 1 for one in strict.questions if one.num_orders > 1], dtype=np.bool_),
            if_empty="no question was asked in several orders",
        ),
        letters=_letters(answers),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Strict:
    """The benchmark's questions with their answers, ready to be scored strictly."""

    questions: Sequence[_Question]
    cells: Sequence[Cell]
    sums: _Sums
    weights: Weights

    @classmethod
    def of(cls, questions: Sequence[_Question], *, num_bootstrap: int, seed: int) -> "_Strict":
        """Returns the questions with resamples of their images."""
        sums, weights = _sums(questions, num_bootstrap=num_bootstrap, seed=seed)
        return cls(questions=questions, cells=sorted({one.cell for one in questions}), sums=sums, weights=weights)

    def within(self, *cells: Cell) -> list[_Question]:
        """Returns the questions of these cells."""
        return [question for question in self.questions if question.cell in cells]

    def macro(self, cells: Sequence[Cell]) -> Score:
        """Returns the mean over data sets of the mean over these cells of theirs."""
        return self.score(lambda w: self.sums.macro(w, cells), self.within(*cells))

    def score(self, metric: Callable[[Weights], Values], members: Sequence[_Question]) -> Score:
        """Returns a metric over some questions with its interval."""
        right = np.array([question.right == 1.0 for question in members], dtype=np.bool_)
        return bootstrap_score(metric, self.weights, n=len(members), hits=right)


def _cell(strict: _Strict, official: OfficialScores, cell: Cell) -> MmadCell:
    members = strict.within(cell)
    return MmadCell(
        dataset=cell[0],
        subtask=cell[1],
        official=official.cells[cell] if cell in official.cells else None,
        strict=strict.score(lambda w: strict.sums.cell(w, cell), members),
        num_questions=len(members),
        num_unparsed=sum(question.unparsed for question in members),
        num_unanswered=sum(question.unanswered for question in members),
    )


def _macro_of(questions: Sequence[_Question], *, num_bootstrap: int, seed: int) -> Score:
    if not questions:
        return Score.undefined("every question is flagged")
    strict = _Strict.of(questions, num_bootstrap=num_bootstrap, seed=seed)
    return strict.macro(strict.cells)


def _sums(questions: Sequence[_Question], *, num_bootstrap: int, seed: int) -> tuple[_Sums, Weights]:
    """Returns sums by image, and how often each image counts: whole images are drawn, with all their questions."""
    images = sorted({(question.cell[0], question.shows_normal, question.image) for question in questions})
    row = {image: place for place, (_, _, image) in enumerate(images)}
    parts = sorted({_part(question) for question in questions})
    column = {part: place for place, part in enumerate(parts)}
    right, count = np.zeros((len(images), len(parts))), np.zeros((len(images), len(parts)))
    for question in questions:
        place = row[question.image], column[_part(question)]
        right[place] += question.right
        count[place] += 1
    kinds = sorted({(dataset, shows_normal) for dataset, shows_normal, _ in images})
    strata = np.array([kinds.index((dataset, normal)) for dataset, normal, _ in images], dtype=np.int64)
    weights = stratified_weights(strata, num_bootstrap=num_bootstrap, seed=seed)
    return _Sums(parts=tuple(parts), right=right, count=count), weights


def _part(question: _Question) -> tuple[Cell, bool]:
    return question.cell, question.shows_normal and question.cell[1] == DETECTION_SUBTASK


def _questions(answers: Sequence[ChoiceAnswer], unanswered: Sequence[ChoiceAnswer]) -> list[_Question]:
    by_question: defaultdict[tuple[str, int], list[ChoiceAnswer]] = defaultdict(list)
    for answer in answers:
        by_question[(answer.image, answer.number)].append(answer)
    questions = [_question(group) for group in by_question.values()]
    return questions + [_question([answer], unanswered=True) for answer in unanswered]


def _question(group: Sequence[ChoiceAnswer], *, unanswered: bool = False) -> _Question:
    letters = [parse_strictly(one.said if one.response is None else one.response, one.options) for one in group]
    first = group[0]
    return _Question(
        image=first.image,
        cell=(first.dataset, first.subtask),
        shows_normal=first.shows_normal,
        right=sum(letter == one.gt_letter for letter, one in zip(letters, group, strict=True)) / len(group),
        unparsed=None in letters and not unanswered,
        unanswered=unanswered,
        num_orders=len({tuple(one.options.items()) for one in group}),
        choices=frozenset(
            "" if letter is None else one.options[letter] for letter, one in zip(letters, group, strict=True)
        ),
        in_file_order=all(one.in_file_order for one in group),
        flags=first.flags,
    )


def _letters(answers: Sequence[ChoiceAnswer]) -> tuple[LetterShare, ...]:
    given = Counter(parse_strictly(one.said if one.response is None else one.response, one.options) for one in answers)
    right = Counter(one.gt_letter for one in answers)
    return tuple(
        LetterShare(letter=letter, given=given[letter] / len(answers), right=right[letter] / len(answers))
        for letter in sorted({letter for one in answers for letter in one.options})
    )


def _as_read(text: str) -> str:
    return text.strip().casefold().removesuffix(".").rstrip()
