"""VisA-D&R, the benchmark of Anomaly-OneVision: its two files in, detection and reasoning records out.

test_data.json is a list of `{"image", "anomaly"}`; visa_dr.json a list of `{"image", "questions", ...answers}` and
holds anomalous images only, so that it says nothing about false alarms. Paths are relative to the data folder.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from velm_train.core.errors import DataError
from velm_train.instructions.formats.json_files import others_of, read_records, text_of, texts_of

VISA_CATEGORIES = (
    "candle",
    "capsules",
    "cashew",
    "chewinggum",
    "fryum",
    "macaroni1",
    "macaroni2",
    "pcb1",
    "pcb2",
    "pcb3",
    "pcb4",
    "pipe_fryum",
)

SKIPPED_CATEGORIES = ("pcb2", "pcb4")
"""Passed over by the published reasoning script (test_reasoning.py), and so no part of the published figures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionRecord:
    """One image of the detection benchmark.

    Attributes:
        image: path relative to the data folder, as the file has it.
        gt_label: True if it shows an anomaly.
        metadata: fields that the format does not name.
    """

    image: str
    category: str
    gt_label: bool
    metadata: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReasoningRecord:
    """One anomalous image of the reasoning benchmark, with questions asked one after the other in one conversation.

    Attributes:
        image: path relative to the data folder, as the file has it.
        questions: in the order asked; the first is about the defect itself, the others about cause and effect.
        answers: the reference answer to each question.
        metadata: fields that the format does not name.
    """

    image: str
    category: str
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    metadata: dict[str, Any]

    @property
    def in_published_figures(self) -> bool:
        """False for the categories that the published script passes over."""
        return self.category not in SKIPPED_CATEGORIES


def read_detection(path: Path) -> tuple[DetectionRecord, ...]:
    """Reads test_data.json.

    Raises:
        DataError: naming the record that is not as it has to be, or that lists an image again.
    """
    records = []
    for number, row in enumerate(read_records(path), start=1):
        where = f"{path}: record {number}"
        image = text_of(row, "image", where=where)
        where = f"{where} ({image})"
        records.append(
            DetectionRecord(
                image=image,
                category=category_in(image, where=where),
                gt_label=_truth(row, where=where),
                metadata=others_of(row, ("image", "anomaly")),
            )
        )
    _require_once([record.image for record in records], path)
    return tuple(records)


def read_reasoning(path: Path, *, answers_key: str = "answers") -> tuple[ReasoningRecord, ...]:
    """Reads visa_dr.json.

    Args:
        path: the JSON file.
        answers_key: field that holds the reference answers.

    Raises:
        DataError: naming the record that is not as it has to be, shows a normal image, or lists an image again.
    """
    records = []
    for number, row in enumerate(read_records(path), start=1):
        where = f"{path}: record {number}"
        image = text_of(row, "image", where=where)
        where = f"{where} ({image})"
        questions, answers = (texts_of(row, key, where=where) for key in ("questions", answers_key))
        if not questions or len(questions) != len(answers):
            raise DataError(f"{where}: {len(questions)} questions and {len(answers)} answers; as many are expected")
        if "anomaly" in row and not _truth(row, where=where):
            raise DataError(f"{where}: a normal image; the reasoning file holds anomalous ones only")
        records.append(
            ReasoningRecord(
                image=image,
                category=category_in(image, where=where),
                questions=questions,
                answers=answers,
                metadata=others_of(row, ("image", "questions", answers_key)),
            )
        )
    _require_once([record.image for record in records], path)
    return tuple(records)


def category_in(image: str, *, where: str) -> str:
    """Returns the VisA category whose folder the path goes through.

    Raises:
        DataError: if it goes through none.
    """
    for part in PurePosixPath(image).parts:
        if part in VISA_CATEGORIES:
            return part
    raise DataError(f"{where}: the path goes through no VisA category ({', '.join(VISA_CATEGORIES)})")


def _truth(row: Mapping[str, Any], *, where: str) -> bool:
    if "anomaly" not in row or row["anomaly"] not in (0, 1):
        raise DataError(f"{where}: 'anomaly' is missing or neither true nor false")
    return bool(row["anomaly"])


def _require_once(images: list[str], path: Path) -> None:
    first: dict[str, int] = {}
    for number, image in enumerate(images, start=1):
        if first.setdefault(image, number) != number:
            raise DataError(f"{path}: record {number} lists {image} again; it is record {first[image]} too")
