"""The one call shape of all tasks: a request in, an instruction sample out."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from velm_train.core.records import ImageRecord, InstructionSample, Message, Option, Region, View
from velm_train.core.taxonomy import CategoryTaxonomy
from velm_train.instructions.wording import Wording

UNKNOWN_ANSWER = "unknown"
"""Provenance value of `answer_defect_type` where nobody knows the truth."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRequest:
    """Everything a task may use.

    Attributes:
        region: the place asked about, or None for the image as a whole.
        region_index: its number within the image, from 0.
        views: in the order in which they are shown.
        category: names and descriptions.
        answer_defect_type: the truth; "good" for a false alarm; None if unknown, which leaves the target empty.
        options: the closed list as shown.
        rng: source of every draw of the task.
        repetition: number of this sample among those of its region.
        provenance: where the finding came from.
    """

    record: ImageRecord
    region: Region | None
    region_index: int
    views: tuple[View, ...]
    category: CategoryTaxonomy
    answer_defect_type: str | None
    options: tuple[Option, ...]
    wording: Wording
    rng: np.random.Generator
    repetition: int
    provenance: Mapping[str, str]


def sample_id(image_id: str, *, region_index: int, task: str, repetition: int) -> str:
    """Returns the identifier of one sample."""
    return f"{image_id}#{region_index}/{task}/{repetition}"


def assemble(
    request: TaskRequest, *, task: str, prompt: str, target: str, options: tuple[Option, ...]
) -> InstructionSample:
    """Returns the sample that asks `prompt` in a single user turn.

    Args:
        request: where views, identifiers and provenance come from.
        task: name of the task.
        prompt: text of the user turn with one `<image>` per view.
        target: the right answer; dropped if the truth is unknown.
        options: the closed list that is scored; empty if the answer is not one of a list.
    """
    answer = request.answer_defect_type
    return InstructionSample(
        sample_id=sample_id(
            request.record.image_id, region_index=request.region_index, task=task, repetition=request.repetition
        ),
        image_id=request.record.image_id,
        category=request.record.category,
        task=task,
        views=request.views,
        messages=(Message(role="user", text=prompt),),
        target=target if answer is not None else "",
        options=options,
        provenance={**request.provenance, "answer_defect_type": answer or UNKNOWN_ANSWER},
    )
