"""Answers to VisA-D&R and the benchmark's own file: two files in, answers beside the truth or the reference out.

No format of answers was published. Here it is a JSON list of `{"image", "answer"}` for detection, and of `{"image",
"answers"}`, one text a question, for reasoning; images are called as in the benchmark's file.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from velm_train.core.benchmarks import WrittenAnswer, YesNoAnswer
from velm_train.core.errors import DataError
from velm_train.instructions.formats.json_files import read_records, text_of, texts_of
from velm_train.instructions.formats.visa_dr import read_detection, read_reasoning

MissingAnswers = Literal["refuse", "wrong"]
"""What images without an answer are: a reason to stop, or wrong."""


def read_detection_answers(path: Path, *, truth: Path, missing: MissingAnswers) -> tuple[YesNoAnswer, ...]:
    """Reads one answer an image.

    Args:
        path: the answers.
        truth: test_data.json.
        missing: what becomes of images without an answer; a wrong one is an empty one.

    Raises:
        DataError: naming the record whose image is unknown or answered twice, or the images without an answer.
    """
    records = read_detection(truth)
    rows = _by_image(path, [record.image for record in records])
    _refuse_missing(path, [record.image for record in records if record.image not in rows], missing=missing)
    return tuple(
        YesNoAnswer(
            image=record.image,
            category=record.category,
            gt_label=record.gt_label,
            said=_text(path, rows[record.image]) if record.image in rows else "",
        )
        for record in records
    )


def read_reasoning_answers(path: Path, *, truth: Path, missing: MissingAnswers) -> tuple[WrittenAnswer, ...]:
    """Reads one answer a question.

    Args:
        path: the answers.
        truth: visa_dr.json.
        missing: what becomes of images without answers; wrong ones are empty ones.

    Raises:
        DataError: naming the record whose image is unknown or answered twice, or that has not one answer a question;
            or the images without answers.
    """
    records = read_reasoning(truth)
    rows = _by_image(path, [record.image for record in records])
    _refuse_missing(path, [record.image for record in records if record.image not in rows], missing=missing)
    answers = []
    for record in records:
        said: Sequence[str] = [""] * len(record.questions)
        if record.image in rows:
            number, row = rows[record.image]
            where = f"{path}, record {number} ({record.image})"
            said = texts_of(row, "answers", where=where)
            if len(said) != len(record.questions):
                raise DataError(f"{where}: {len(said)} answers to {len(record.questions)} questions; give one for each")
        answers += [
            WrittenAnswer(
                image=record.image,
                category=record.category,
                number=place,
                reference=reference,
                said=text,
                published=record.in_published_figures,
            )
            for place, (reference, text) in enumerate(zip(record.answers, said, strict=True), start=1)
        ]
    return tuple(answers)


def _by_image(path: Path, known: Iterable[str]) -> dict[str, tuple[int, Mapping[str, Any]]]:
    """Returns image -> number and record of the answers."""
    images = set(known)
    found: dict[str, tuple[int, Mapping[str, Any]]] = {}
    for number, row in enumerate(read_records(path), start=1):
        image = text_of(row, "image", where=f"{path}, record {number}")
        if image not in images:
            near = difflib.get_close_matches(image, images, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise DataError(f"{path}, record {number}: image {image!r} is not in the benchmark{hint}")
        if image in found:
            raise DataError(f"{path}, record {number}: {image!r} is record {found[image][0]} too; keep one")
        found[image] = (number, row)
    if not found:
        raise DataError(f"{path} holds no answer; at least one is needed")
    return found


def _text(path: Path, place: tuple[int, Mapping[str, Any]]) -> str:
    number, row = place
    answer = row["answer"] if "answer" in row else None
    if not isinstance(answer, str):
        raise DataError(f"{path}, record {number}: 'answer' is {answer!r}; text is expected")
    return answer


def _refuse_missing(path: Path, absent: Sequence[str], *, missing: MissingAnswers) -> None:
    if absent and missing == "refuse":
        raise DataError(
            f"{path}: {len(absent)} images have no answer, for instance {absent[0]!r}; add them or say "
            "score.missing=wrong"
        )
