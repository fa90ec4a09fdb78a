"""Counts in; pictures on disk, questions about them, and the order in which every system visits them out.

Every picture is asked about several times, with the closed list in another order each time, and the questions about a
picture follow one another. A system without shared prefixes gains by that, too: it pads less.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from small_qwen import CELL_PX

from velm_train.core.hashing import sha256_file
from velm_train.core.images import write_png
from velm_train.core.records import InstructionSample, Message, SizeHW, View
from velm_train.core.seeding import generator
from velm_train.instructions.views import NO_CONTOUR
from velm_train.models.lora import LoraSettings

ANSWERS = ("scratch", "dent", "crack", "hole", "stain", "thread", "cut", "contamination")
LORA = LoraSettings(r=8, alpha=16.0, dropout=0.0, targets="attention_mlp")
LEARNING_RATE = 1e-3
GRADIENT_CLIP = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """How much there is to learn.

    Attributes:
        images: different pictures.
        questions: about each of them.
        epochs: how often every question is visited.
        batch_size: samples of an optimiser step.
        grids_hw: rows and columns of visual tokens that pictures get in turns.
    """

    images: int = 8
    questions: int = 4
    epochs: int = 2
    batch_size: int = 8
    grids_hw: Sequence[SizeHW] = ((16, 16), (14, 20), (16, 24), (20, 28))


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """What is learned, and in which order.

    Attributes:
        samples: every question about every picture.
        visits: number of the sample of each visit, epoch after epoch; a multiple of the batch size.
        batch_size: visits of an optimiser step.
        most_tokens: visual tokens of the largest picture.
    """

    samples: Sequence[InstructionSample]
    visits: Sequence[int]
    batch_size: int
    most_tokens: int

    @property
    def num_steps(self) -> int:
        """Optimiser steps."""
        return len(self.visits) // self.batch_size

    @property
    def views(self) -> list[View]:
        """The different pictures."""
        return list({sample.image_id: sample.views[0] for sample in self.samples}.values())

    def first_steps(self, count: int) -> "Scene":
        """Returns the same scene with the visits of its first steps alone."""
        return replace(self, visits=self.visits[: count * self.batch_size])


def make_scene(folder: Path, counts: Counts) -> Scene:
    """Writes the pictures and makes up what is asked about them.

    Args:
        folder: gets the pictures.
        counts: how many of what.
    """
    visits: list[int] = []
    for epoch in range(counts.epochs):
        for image in generator(0, "benchmark order", str(epoch)).permutation(counts.images).tolist():
            visits += range(image * counts.questions, (image + 1) * counts.questions)
    return Scene(
        samples=[sample for number in range(counts.images) for sample in _questions(folder, number, counts)],
        visits=visits[: len(visits) // counts.batch_size * counts.batch_size],
        batch_size=counts.batch_size,
        most_tokens=max(rows * columns for rows, columns in counts.grids_hw),
    )


def question_of(sample: InstructionSample) -> str:
    """Returns the question without what stands for the picture, as other systems are given it."""
    return sample.messages[0].text.removeprefix("<image>")


def _questions(folder: Path, number: int, counts: Counts) -> list[InstructionSample]:
    view = _picture(folder, number, grid_hw=counts.grids_hw[number % len(counts.grids_hw)])
    answer = ANSWERS[number % len(ANSWERS)]
    return [
        InstructionSample(
            sample_id=f"{number}, question {question}",
            image_id=view.image_id,
            category="benchmark",
            task="name",
            views=(view,),
            messages=(Message(role="user", text=f"<image>{_wording(number, question)}"),),
            target=answer,
            options=(),
            provenance={"answer_defect_type": answer, "image_defect_type": answer},
        )
        for question in range(counts.questions)
    ]


def _wording(number: int, question: int) -> str:
    order = generator(0, "benchmark question", str(number), str(question)).permutation(len(ANSWERS))
    # Lists of unequal length: rows of a batch then differ by more than their pictures.
    listed = ", ".join(ANSWERS[place] for place in order[: 3 + question % (len(ANSWERS) - 2)])
    return f"Which of these defects does the picture show? Answer with one name from the list. {listed}"


def _picture(folder: Path, number: int, *, grid_hw: SizeHW) -> View:
    path = folder / f"{number:05}.png"
    coarse = generator(0, "benchmark picture", str(number)).integers(0, 256, (*grid_hw, 3), dtype=np.uint8)
    write_png(coarse.repeat(CELL_PX, axis=0).repeat(CELL_PX, axis=1), path)
    height, width = grid_hw[0] * CELL_PX, grid_hw[1] * CELL_PX
    return View(
        kind="query",
        image_id=f"picture {number}",
        image_path=path,
        sha256=sha256_file(path),
        box_xyxy=(0, 0, width, height),
        contour=NO_CONTOUR,
    )
