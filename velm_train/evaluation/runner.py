"""Gated images and a model go in; one prediction an image comes out, in batches, resumable after any of them."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import torch

from velm_train.collation.render import EncodedSample
from velm_train.core.batch import Batch
from velm_train.core.progress import Progress
from velm_train.core.records import Prediction
from velm_train.evaluation.gated import GatedImage, Question, named_row, stopped_row
from velm_train.evaluation.scoring import RegionScores, average_orders, region_naming_the_image
from velm_train.models.protocol import VisionLanguageModel

logger = logging.getLogger(__name__)

ANSWER_STAGE = "answer"
"""Stage name of the language model's seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OptionScorer:
    """Asks a model how likely every option is.

    Attributes:
        model: left in eval mode.
        collate: encoded prompts -> batch with the evidence of their views.
        batch_size: questions per forward pass, 1 or more.
        device: where the model is.
    """

    model: VisionLanguageModel
    collate: Callable[[Sequence[EncodedSample]], Batch]
    batch_size: int
    device: torch.device

    def score(self, questions: Sequence[Question]) -> list[tuple[float, ...]]:
        """Returns the options' log-likelihoods of each question, nats, in the order shown."""
        if isinstance(self.model, torch.nn.Module):
            self.model.eval()
        with torch.no_grad():
            batch = self.collate([question.prompt for question in questions]).to(self.device)
            scores = self.model.option_log_likelihoods(batch, options=[question.option_ids for question in questions])
        return [tuple(values.double().tolist()) for values in scores]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scored:
    """A question's log-likelihoods, and the seconds charged to each image that asked it."""

    log_likelihoods: tuple[float, ...]
    seconds: float


def run_evaluation(
    images: Sequence[GatedImage],
    *,
    scorer: OptionScorer,
    hashes: Mapping[str, str],
    on_rows: Callable[[Sequence[Prediction]], None],
    done: AbstractSet[str],
    progress: Progress,
    title: str = "name the defects",
) -> list[Prediction]:
    """Names the defect of every flagged image; images that the gate lets pass never reach the model.

    Args:
        images: gated images; the truth in them is copied to the rows and nothing else.
        scorer: the model.
        hashes: what makes the rows; copied into each.
        on_rows: gets the rows of finished images after every batch, to keep them.
        done: ids of images whose rows an earlier run has kept; they are left out.
        progress: gets one unit a finished image.
        title: of the progress bar.

    Returns:
        The rows made now, in the order they were finished.
    """
    pending = [image for image in images if image.image_id not in done]
    stopped = [image for image in pending if not image.decision.pred_label]
    flagged = [image for image in pending if image.decision.pred_label]
    logger.info("%s: %d flagged, %d let pass by the gate, %d known", title, len(flagged), len(stopped), len(done))
    rows: list[Prediction] = []
    with progress.stage(title, total=len(pending)) as advance:
        batches = [[stopped_row(image, hashes=hashes) for image in stopped]]
        for finished in _chain(batches, _name_images(flagged, scorer=scorer, hashes=hashes)):
            if finished:
                on_rows(finished)
                rows += finished
                advance(len(finished))
    return rows


def _chain(*parts: Sequence[list[Prediction]] | Iterator[list[Prediction]]) -> Iterator[list[Prediction]]:
    for part in parts:
        yield from part


@dataclass(frozen=True, kw_only=True, slots=True)
class _Round:
    """One forward pass.

    Attributes:
        questions: asked in it.
        finished: numbers of the images that then have all their answers.
    """

    questions: tuple[Question, ...]
    finished: tuple[int, ...]


def _longest_first(images: Sequence[GatedImage]) -> list[int]:
    return sorted(range(len(images)), key=lambda i: (-max(q.num_tokens for q in images[i].questions), i))


def _askers_of(images: Sequence[GatedImage]) -> dict[str, list[int]]:
    """Returns which images ask each question, by its key."""
    askers: dict[str, list[int]] = {}
    for i, image in enumerate(images):
        for key in {question.key for question in image.questions}:
            askers.setdefault(key, []).append(i)
    return askers


def _rounds(images: Sequence[GatedImage], *, batch_size: int) -> Iterator[_Round]:
    """Yields forward passes that ask every question once.

    Questions are asked longest first, so that a batch that does not fit in memory fails at the start; those of one
    image are of about one length and stay together.
    """
    unique: dict[str, Question] = {}
    for i in _longest_first(images):
        for question in images[i].questions:
            unique.setdefault(question.key, question)
    askers = _askers_of(images)
    missing = [{question.key for question in image.questions} for image in images]
    questions = list(unique.values())
    for start in range(0, len(questions), batch_size):
        batch = questions[start : start + batch_size]
        finished: list[int] = []
        for question in batch:
            for i in askers[question.key]:
                missing[i].discard(question.key)
                if not missing[i]:
                    finished.append(i)
        yield _Round(questions=tuple(batch), finished=tuple(finished))


def share_of(images: Sequence[GatedImage], *, number: int, num_shares: int) -> list[GatedImage]:
    """Returns one of several shares of the images, of about as much work each; every image is in one of them.

    Images that the gate lets pass cost nothing. The others are dealt out the longest first, which evens out the work;
    those that ask the very same, such as about a blank picture, stay together, so that they get the very same answer.

    Args:
        images: all of them, in an order that is the same wherever shares are made.
        number: of the share, 0 to num_shares - 1.
        num_shares: 1 or more.
    """
    flagged = [image for image in images if image.decision.pred_label]
    alike: dict[tuple[str, ...], list[str]] = {}
    for i in _longest_first(flagged):
        alike.setdefault(tuple(question.key for question in flagged[i].questions), []).append(flagged[i].image_id)
    passed = [image.image_id for image in images if not image.decision.pred_label]
    mine = {image_id for ids in list(alike.values())[number::num_shares] for image_id in ids}
    mine.update(passed[number::num_shares])
    return [image for image in images if image.image_id in mine]


def order_of_rows(images: Sequence[GatedImage], *, batch_size: int) -> list[str]:
    """Returns the ids of the images in the order in which `run_evaluation` finishes them."""
    flagged = [image for image in images if image.decision.pred_label]
    stopped = [image.image_id for image in images if not image.decision.pred_label]
    rounds = _rounds(flagged, batch_size=batch_size)
    return stopped + [flagged[i].image_id for one in rounds for i in one.finished]


def _name_images(
    images: Sequence[GatedImage], *, scorer: OptionScorer, hashes: Mapping[str, str]
) -> Iterator[list[Prediction]]:
    """Yields after every forward pass the rows of the images that have all their answers."""
    askers = _askers_of(images)
    scored: dict[str, _Scored] = {}
    for one in _rounds(images, batch_size=scorer.batch_size):
        began = time.perf_counter()
        values = scorer.score(one.questions)
        seconds = (time.perf_counter() - began) / len(one.questions)
        for question, log_likelihoods in zip(one.questions, values, strict=True):
            num_askers = len(askers[question.key])
            scored[question.key] = _Scored(log_likelihoods=log_likelihoods, seconds=seconds / num_askers)
        yield [_name_image(images[i], scored, hashes=hashes) for i in one.finished]


def _name_image(image: GatedImage, scored: Mapping[str, _Scored], *, hashes: Mapping[str, str]) -> Prediction:
    regions = []
    for index in sorted({question.region_index for question in image.questions}):
        questions = [question for question in image.questions if question.region_index == index]
        options = average_orders(
            [question.prompt.sample.options for question in questions],
            [scored[question.key].log_likelihoods for question in questions],
        )
        regions.append(RegionScores(options=options, peak_score=image.regions[index].peak_score))
    seconds = sum(scored[key].seconds for key in {question.key for question in image.questions})
    return named_row(image, region_naming_the_image(regions), seconds={ANSWER_STAGE: seconds}, hashes=hashes)
