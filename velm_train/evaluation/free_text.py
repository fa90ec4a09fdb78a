"""Gated images and a model go in; its own words about each, strictly read, come out.

Published protocols let a model write its answer. It is asked once, about the region that stands out most, with the
options in their first order; what it writes counts if it is one option of the list, in any case, with or without a
full stop. Everything else is unparsed: counted, and wrong.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from velm_train.collation.render import EncodedSample
from velm_train.core.batch import Batch
from velm_train.core.progress import Progress
from velm_train.core.records import Prediction
from velm_train.evaluation.gated import GatedImage, Question, spoken_row, stopped_row
from velm_train.instructions.answers import parse

WRITE_STAGE = "write"
"""Stage name of the seconds that writing a response takes."""


@runtime_checkable
class WritingModel(Protocol):
    """A model that can write."""

    def generate(self, batch: Batch, *, max_new_tokens: int) -> list[list[int]]:
        """Returns each row's greedy response as token ids without the stop token."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Responder:
    """Lets a model write.

    Attributes:
        model: asked for its likeliest next token again and again.
        collate: encoded prompts -> batch with the evidence of their views.
        decode: token ids -> text.
        batch_size: questions per forward pass, 1 or more.
        max_new_tokens: longest response, 1 or more.
        device: where the model is.
    """

    model: WritingModel
    collate: Callable[[Sequence[EncodedSample]], Batch]
    decode: Callable[[Sequence[int]], str]
    batch_size: int
    max_new_tokens: int
    device: torch.device

    def respond(self, questions: Sequence[Question]) -> list[str]:
        """Returns what the model writes to each question."""
        with torch.no_grad():
            batch = self.collate([question.prompt for question in questions]).to(self.device)
            written = self.model.generate(batch, max_new_tokens=self.max_new_tokens)
        return [self.decode(token_ids) for token_ids in written]


def question_in_words(image: GatedImage) -> Question:
    """Returns the one question that a flagged image is asked: its highest peak, the first order."""
    first: dict[int, Question] = {}
    for question in image.questions:
        first.setdefault(question.region_index, question)
    return first[max(first, key=lambda index: (image.regions[index].peak_score, -index))]


def run_free_text(
    images: Sequence[GatedImage],
    *,
    responder: Responder,
    hashes: Mapping[str, str],
    on_rows: Callable[[Sequence[Prediction]], None],
    done: AbstractSet[str],
    progress: Progress,
    title: str = "write the answers",
) -> list[Prediction]:
    """Lets the model write about every flagged image; images that the gate lets pass never reach it.

    Args:
        images: gated images.
        responder: the model.
        hashes: what makes the rows; copied into each.
        on_rows: gets the finished rows after every batch, to keep them.
        done: ids of images whose rows an earlier run has kept; they are left out.
        progress: gets one unit a finished image.
        title: of the progress bar.

    Returns:
        The rows made now; the response as written, and no log-likelihoods.
    """
    pending = [image for image in images if image.image_id not in done]
    flagged = [image for image in pending if image.decision.pred_label]
    rows = [stopped_row(image, hashes=hashes) for image in pending if not image.decision.pred_label]
    with progress.stage(title, total=len(pending)) as advance:
        if rows:
            on_rows(rows)
            advance(len(rows))
        for start in range(0, len(flagged), responder.batch_size):
            part = flagged[start : start + responder.batch_size]
            questions = [question_in_words(image) for image in part]
            began = time.perf_counter()
            responses = responder.respond(questions)
            seconds = {WRITE_STAGE: (time.perf_counter() - began) / len(part)}
            written = [
                _read(image, question, response, seconds=seconds, hashes=hashes)
                for image, question, response in zip(part, questions, responses, strict=True)
            ]
            on_rows(written)
            rows += written
            advance(len(written))
    return rows


def _read(
    image: GatedImage, question: Question, response: str, *, seconds: Mapping[str, float], hashes: Mapping[str, str]
) -> Prediction:
    meant = parse(response, question.prompt.sample.options)
    # "none of these" is written out as the option, so that scoring tells it from what cannot be read
    text = response if meant is None else meant.answer
    named = None if meant is None else meant.defect_type
    return spoken_row(image, response=text, pred_defect_type=named, seconds=seconds, hashes=hashes)
