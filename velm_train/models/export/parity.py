"""Answers of one model in several forms in, how far they agree out; what does not agree is refused."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from velm_train.core.errors import ExportError


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What a model says about some images.

    Attributes:
        labels: image_id -> name of the type that it says the image shows; None for none of the list.
        log_likelihoods: image_id -> answer -> its log-likelihood, nats.
    """

    labels: Mapping[str, str | None]
    log_likelihoods: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """How far one form of a model answers like the one with its adapter.

    Attributes:
        form: "merged", "reloaded" or another.
        num_images: images asked about.
        num_answers: log-likelihoods compared.
        flipped: images whose label differs.
        largest_difference_nats: of all log-likelihoods; inf if one is not a number.
        mean_difference_nats: of the absolute values.
        worst_image: where the largest is.
    """

    form: str
    num_images: int
    num_answers: int
    flipped: tuple[str, ...]
    largest_difference_nats: float
    mean_difference_nats: float
    worst_image: str


def compare_answers(form: str, *, reference: Answers, other: Answers) -> Agreement:
    """Compares two sets of answers to the same questions.

    Args:
        form: what `other` is called.
        reference: of the model with its adapter.
        other: of another form of it.
    """
    assert reference.labels, "answers to compare"
    assert reference.labels.keys() == other.labels.keys(), "both were asked about the same images"
    differences: list[tuple[float, str]] = []
    for image_id, own in reference.log_likelihoods.items():
        found = other.log_likelihoods[image_id]
        assert own.keys() == found.keys(), f"{image_id}: both chose among the same answers"
        differences += [(_distance(value, found[answer]), image_id) for answer, value in own.items()]
    largest, worst_image = max(differences)
    return Agreement(
        form=form,
        num_images=len(reference.labels),
        num_answers=len(differences),
        flipped=tuple(sorted(image for image, name in reference.labels.items() if other.labels[image] != name)),
        largest_difference_nats=largest,
        mean_difference_nats=sum(difference for difference, _ in differences) / len(differences),
        worst_image=worst_image,
    )


def _distance(one: float, other: float) -> float:
    distance = abs(one - other)
    return math.inf if math.isnan(distance) else distance


def require_agreement(agreement: Agreement, *, tolerance_nats: float) -> None:
    """Refuses a form of the model that gives another label or another log-likelihood.

    Args:
        agreement: as compared.
        tolerance_nats: largest difference allowed, nats.

    Raises:
        ExportError: with the figures and what to do.
    """
    if not agreement.flipped and agreement.largest_difference_nats <= tolerance_nats:
        return
    flips = f" ({', '.join(agreement.flipped[:3])})" if agreement.flipped else ""
    raise ExportError(
        f"the {agreement.form} model does not answer like the one with its adapter: {len(agreement.flipped)} labels of "
        f"{agreement.num_images} images differ{flips}, allowed are 0; largest log-likelihood difference "
        f"{agreement.largest_difference_nats:.3g} nats on {agreement.worst_image}, allowed are {tolerance_nats:g} "
        "(export.tolerance_nats); nothing is kept; export.dtype=float32 rounds least"
    )
