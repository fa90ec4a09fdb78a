"""MMAD questions (mmad.json): a file in, multiple-choice questions out, those known to be bad marked.

The file maps an image path to `{"conversation": [{"Question", "Answer", "Options", "type", "annotation"}],
"similar_templates", "random_templates", ...}`; `Answer` is a letter, `Options` maps letters to texts.
"""

import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from velm_train.core.errors import DataError
from velm_train.instructions.formats.json_files import (
    is_lfs_pointer,
    object_of,
    objects_of,
    others_of,
    read_json,
    text_of,
    texts_of,
)

Flag = Literal["may_show_another_product", "same_choice_twice", "letters_out_of_order"]
"""Why a question is not to be trusted:

may_show_another_product: the image lies in a folder that the published release filled with pictures of metal nuts (22
    of them, MMAD issues 15 and 19); from the file alone nobody can tell whether a copy was mended.
same_choice_twice: two choices read the same, so the right one cannot be told from a wrong one.
letters_out_of_order: the letters are not A, B, C, ... in this order; the published scripts give new letters by place.
"""

WRONG_PRODUCT_FOLDER = "DS-MVTec/pill/image/good/"

SUBTASKS: Mapping[str, str] = {
    "Object Structure": "Object Analysis",
    "Object Details": "Object Analysis",
}
"""Question types that MMAD scores under another name; every other type is a subtask of its own."""

_CONVERSATION = "conversation"
_ENTRY_FIELDS = ("Question", "Answer", "Options", "type", "annotation")


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One answer offered."""

    letter: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MultipleChoiceQuestion:
    """One MMAD question about one image.

    Attributes:
        image: path relative to the data folder, as the file has it.
        number: place among the image's questions, from 1.
        choices: in the order of the file; at least two.
        answer: letter of the right choice.
        question_type: as the file has it, such as "Defect Classification".
        annotation: as the file has it; None if it has none.
        similar_templates: normal images nearest to this one, relative to the data folder.
        random_templates: normal images drawn at random, relative to the data folder.
        flags: why not to trust the question.
        metadata: fields of the question that the format does not name.
        image_metadata: fields of the image that the format does not name, such as its mask.
    """

    image: str
    number: int
    question: str
    choices: tuple[Choice, ...]
    answer: str
    question_type: str
    annotation: Any
    similar_templates: tuple[str, ...]
    random_templates: tuple[str, ...]
    flags: tuple[Flag, ...]
    metadata: dict[str, Any]
    image_metadata: dict[str, Any]

    @property
    def answer_text(self) -> str:
        """The text of the right choice."""
        return next(choice.text for choice in self.choices if choice.letter == self.answer)

    @property
    def subtask(self) -> str:
        """The name under which MMAD scores the question."""
        return SUBTASKS[self.question_type] if self.question_type in SUBTASKS else self.question_type


@dataclass(frozen=True, kw_only=True, slots=True)
class MmadQuestions:
    """What a file holds.

    Attributes:
        questions: in the order of the file.
        images_without_questions: images about which nothing is asked; the published scripts pass over them.
    """

    questions: tuple[MultipleChoiceQuestion, ...]
    images_without_questions: tuple[str, ...]


def read_mmad(path: Path) -> MmadQuestions:
    """Reads mmad.json.

    Raises:
        DataError: if the file is a Git LFS pointer or damaged, or naming the question that is not as it has to be.
    """
    images = read_json(path)
    if not isinstance(images, dict):
        raise DataError(f"{path}: an object of image paths is expected; is it mmad.json?")
    questions: list[MultipleChoiceQuestion] = []
    unasked: list[str] = []
    for image in images:
        found = _questions(image, object_of(images, image, where=str(path)), where=f"{path}: {image}")
        questions += found
        if not found:
            unasked.append(image)
    return MmadQuestions(questions=tuple(questions), images_without_questions=tuple(unasked))


def _questions(image: str, record: Mapping[str, Any], *, where: str) -> list[MultipleChoiceQuestion]:
    key = next((key for key in record if key.startswith(_CONVERSATION)), None)  # the first, as the published scripts
    if key is None:
        return []
    templates = {
        name: texts_of(record, name, where=where) if name in record else ()
        for name in ("similar_templates", "random_templates")
    }
    return [
        _question(
            entry,
            image=image,
            number=number,
            templates=templates,
            image_metadata=others_of(record, (key, *templates)),
            where=f"{where}, question {number}",
        )
        for number, entry in enumerate(objects_of(record, key, where=where), start=1)
    ]


def _question(
    entry: Mapping[str, Any],
    *,
    image: str,
    number: int,
    templates: Mapping[str, tuple[str, ...]],
    image_metadata: dict[str, Any],
    where: str,
) -> MultipleChoiceQuestion:
    options = object_of(entry, "Options", where=where)
    choices = tuple(Choice(letter=letter, text=text_of(options, letter, where=where)) for letter in options)
    answer = text_of(entry, "Answer", where=where)
    if len(choices) < 2:
        raise DataError(f"{where}: {len(choices)} options; at least two are expected")
    if answer not in options:
        raise DataError(f"{where}: the answer is {answer!r}; the options are {', '.join(options)}")
    return MultipleChoiceQuestion(
        image=image,
        number=number,
        question=text_of(entry, "Question", where=where),
        choices=choices,
        answer=answer,
        question_type=text_of(entry, "type", where=where),
        annotation=entry["annotation"] if "annotation" in entry else None,
        similar_templates=templates["similar_templates"],
        random_templates=templates["random_templates"],
        flags=_flags(image, choices),
        metadata=others_of(entry, _ENTRY_FIELDS),
        image_metadata=image_metadata,
    )


def _flags(image: str, choices: tuple[Choice, ...]) -> tuple[Flag, ...]:
    flags: list[Flag] = []
    if image.startswith(WRONG_PRODUCT_FOLDER):
        flags.append("may_show_another_product")
    if len({choice.text.strip().casefold() for choice in choices}) < len(choices):
        flags.append("same_choice_twice")
    if [choice.letter for choice in choices] != list(string.ascii_uppercase[: len(choices)]):
        flags.append("letters_out_of_order")
    return tuple(flags)


def find_unusable_images(questions: Iterable[MultipleChoiceQuestion], *, root: Path) -> dict[str, str]:
    """Returns the images and templates that cannot be opened, with the reason; no picture is decoded.

    Args:
        questions: whose images are looked for.
        root: the data folder.
    """
    names = {
        name
        for question in questions
        for name in (question.image, *question.similar_templates, *question.random_templates)
    }
    reasons: dict[str, str] = {}
    for name in sorted(names):
        if not (root / name).is_file():
            reasons[name] = "does not exist"
        elif is_lfs_pointer(root / name):
            reasons[name] = "is a Git LFS pointer, not the picture; run `git lfs pull`"
    return reasons
