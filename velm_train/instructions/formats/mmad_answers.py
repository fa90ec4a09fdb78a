"""Answers to MMAD as its scripts write them, and mmad.json: two files in, answers beside their questions out.

The file of answers is a list, or one record a line, of `{"image", "question", "question_type", "correct_answer",
"gpt_answer"}`; `question` is the text asked, or `{"text", "options": letter -> text}`. A further field `response` may
hold the model's words, from which `gpt_answer` was made.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from velm_train.core.benchmarks import ChoiceAnswer
from velm_train.core.errors import DataError
from velm_train.instructions.formats.json_files import read_records, text_of
from velm_train.instructions.formats.mmad import MultipleChoiceQuestion, read_mmad

NORMAL_FOLDER = "good"

_ANSWER = "gpt_answer"

Key = tuple[str, int, tuple[tuple[str, str], ...]]
"""Image, number of the question, and its options in the order asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MmadAnswers:
    """Answers in the order of their file, and the questions that have none."""

    answers: tuple[ChoiceAnswer, ...]
    unanswered: tuple[ChoiceAnswer, ...]
    images_without_questions: tuple[str, ...]


def read_mmad_answers(path: Path, *, questions: Path) -> MmadAnswers:
    """Reads answers and finds the question of each.

    Args:
        path: the file of answers.
        questions: mmad.json.

    Raises:
        DataError: naming the record whose image or question is unknown, that contradicts mmad.json, or that answers a
            question again in the same order.
    """
    asked = read_mmad(questions)
    by_image: defaultdict[str, list[MultipleChoiceQuestion]] = defaultdict(list)
    for question in asked.questions:
        by_image[question.image].append(question)
    answers: list[ChoiceAnswer] = []
    first: dict[Key, str] = {}
    for number, row in enumerate(_records(path), start=1):
        answer = _answer(row, by_image, first, where=f"record {number}", path=path)
        answers.append(answer)
    if not answers:
        raise DataError(f"{path} holds no answer; at least one is needed")
    answered = {(answer.image, answer.number) for answer in answers}
    return MmadAnswers(
        answers=tuple(answers),
        unanswered=tuple(
            _choice_answer(question, where="", options=_options(question), said="", response=None)
            for question in asked.questions
            if (question.image, question.number) not in answered
        ),
        images_without_questions=asked.images_without_questions,
    )


def _records(path: Path) -> list[dict[str, Any]]:
    """Reads a JSON list of records, or one record a line."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not text.strip():
        raise DataError(f"{path} is empty; at least one answer is needed")
    if not text.lstrip().startswith("{"):
        return read_records(path)
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, line {number}: {error}; one record a line is expected") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: an object is expected")
        rows.append(row)
    return rows


def _answer(
    row: Mapping[str, Any],
    by_image: Mapping[str, Sequence[MultipleChoiceQuestion]],
    first: dict[Key, str],
    *,
    where: str,
    path: Path,
) -> ChoiceAnswer:
    place = f"{path}, {where}"
    image = text_of(row, "image", where=place)
    place = f"{place} ({image})"
    if image not in by_image:
        raise DataError(f"{place}: mmad.json asks nothing about this image")
    text, options = _asked(row, where=place)
    question, key = _find(by_image[image], text, options, taken=first, where=place)
    if key in first:
        raise DataError(f"{place}: this question was answered in the same order in {first[key]} already; keep one")
    first[key] = where
    asked_type = text_of(row, "question_type", where=place)
    if asked_type != question.question_type:
        raise DataError(f"{place}: the type is {asked_type!r}, in mmad.json {question.question_type!r}")
    said, response = row[_ANSWER] if _ANSWER in row else None, row["response"] if "response" in row else None
    if not isinstance(said, str) and not isinstance(response, str):
        raise DataError(f"{place}: {_ANSWER!r} is {said!r}; text is expected, '' where there was no answer")
    answer = _choice_answer(
        question,
        where=where,
        options=_options(question) if options is None else options,
        said=said if isinstance(said, str) else "",
        response=response if isinstance(response, str) else None,
    )
    return _checked(answer, text_of(row, "correct_answer", where=place), where=place)


def _asked(row: Mapping[str, Any], *, where: str) -> tuple[str, dict[str, str] | None]:
    """Returns the text that was asked, and the options in their order if the file has them apart."""
    question = row["question"] if "question" in row else None
    if isinstance(question, str):
        return question, None
    if not isinstance(question, dict):
        raise DataError(f"{where}: 'question' is {question!r}; text, or an object with 'text', is expected")
    options = question["options"] if "options" in question else None
    if options is not None and not (
        isinstance(options, dict) and all(isinstance(text, str) for text in options.values())
    ):
        raise DataError(f"{where}: the options are {options!r}; letters with texts are expected")
    return text_of(question, "text", where=where), options


def _find(
    candidates: Sequence[MultipleChoiceQuestion],
    text: str,
    options: Mapping[str, str] | None,
    *,
    taken: Mapping[Key, str],
    where: str,
) -> tuple[MultipleChoiceQuestion, Key]:
    """Returns the question with this text and these options in any order; of equal ones the first without answer."""
    fitting = [
        question
        for question in candidates
        if question.question in text
        and (options is None or sorted(options.values()) == sorted(choice.text for choice in question.choices))
    ]
    if not fitting:
        raise DataError(f"{where}: mmad.json has no such question with these options about this image: {text[:80]!r}")
    longest = max(len(question.question) for question in fitting)
    fitting = [question for question in fitting if len(question.question) == longest]
    keys = [(question.image, question.number, tuple((options or _options(question)).items())) for question in fitting]
    free = [place for place, key in enumerate(keys) if key not in taken]
    chosen = free[0] if free else 0
    return fitting[chosen], keys[chosen]


def _options(question: MultipleChoiceQuestion) -> dict[str, str]:
    return {choice.letter: choice.text for choice in question.choices}


def _choice_answer(
    question: MultipleChoiceQuestion, *, where: str, options: Mapping[str, str], said: str, response: str | None
) -> ChoiceAnswer:
    parts = question.image.split("/")
    return ChoiceAnswer(
        where=where,
        image=question.image,
        number=question.number,
        dataset=parts[0],
        subtask=question.subtask,
        shows_normal=NORMAL_FOLDER in parts,
        options=dict(options),
        gt_letter=next(letter for letter, text in options.items() if text == question.answer_text),
        said=said,
        response=response,
        in_file_order=list(options.values()) == [choice.text for choice in question.choices],
        flags=question.flags,
    )


def _checked(answer: ChoiceAnswer, correct: str, *, where: str) -> ChoiceAnswer:
    """Returns the answer with the file's own right letter, which must stand for the right choice of mmad.json."""
    if correct not in answer.options or answer.options[correct] != answer.options[answer.gt_letter]:
        raise DataError(
            f"{where}: 'correct_answer' is {correct!r}, but mmad.json says {answer.gt_letter!r} "
            f"({answer.options[answer.gt_letter]!r}); were the answers given to another version of mmad.json?"
        )
    return replace(answer, gt_letter=correct)
