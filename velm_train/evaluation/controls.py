"""Gated images go in; the same questions with blank evidence, or a stratified part of the images, come out."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from velm_train.collation.collate import ViewFeatures
from velm_train.core.records import SizeHW, View
from velm_train.core.seeding import generator
from velm_train.evaluation.gated import GatedImage
from velm_train.models.protocol import VisionLanguageModel

MID_GREY = 128


def grey_features(model: VisionLanguageModel, *, size_hw: SizeHW) -> ViewFeatures:
    """Returns what the frozen tower says about a mid-grey picture, with an empty anomaly map.

    Args:
        model: encodes the picture.
        size_hw: of the picture, pixels.
    """
    evidence = model.encode_views([np.full((*size_hw, 3), MID_GREY, dtype=np.uint8)]).to(torch.device("cpu"))
    return replace(
        evidence,
        map_scores=torch.zeros_like(evidence.map_scores),
        gt_scores=torch.full_like(evidence.map_scores, torch.nan),
    )


def blank_lookup(model: VisionLanguageModel) -> Callable[[View], ViewFeatures]:
    """Returns a feature lookup, as collation takes it, that answers every view with a grey picture of its size.

    The size stays, because the prompt holds as many places as a view of that size takes.

    Args:
        model: encodes a picture of every size that is asked for, once.
    """

    @functools.cache
    def blank(size_hw: SizeHW) -> ViewFeatures:
        return grey_features(model, size_hw=size_hw)

    def lookup(view: View) -> ViewFeatures:
        return blank(view.size_hw)

    return lookup


def stratified_part(images: Sequence[GatedImage], *, max_flagged: int, seed: int) -> list[GatedImage]:
    """Returns all stopped images and at most `max_flagged` flagged ones, so that a costly row stays comparable.

    Flagged images are taken in turns over the pairs of category and true type, each time a random one, so that rare
    types stay in. This decides which images a control row is scored on; no answer depends on it.

    Args:
        images: labelled gated images.
        max_flagged: flagged images to keep; 0 keeps all.
        seed: of the draw.
    """
    flagged = [image for image in images if image.decision.pred_label]
    if max_flagged == 0 or len(flagged) <= max_flagged:
        return list(images)
    strata: dict[tuple[str, str], list[GatedImage]] = {}
    for image in sorted(flagged, key=lambda image: image.image_id):
        strata.setdefault((image.category, str(image.gt_defect_type)), []).append(image)
    rng = generator(seed, "stratified_part")
    shuffled = {key: [members[i] for i in rng.permutation(len(members))] for key, members in sorted(strata.items())}
    turns = max(len(members) for members in shuffled.values())
    in_turn = [
        members[turn].image_id
        for turn in range(turns)
        for members in _permuted(list(shuffled.values()), rng)
        if turn < len(members)
    ]
    kept = set(in_turn[:max_flagged])
    return [image for image in images if not image.decision.pred_label or image.image_id in kept]


def _permuted(entries: list[list[GatedImage]], rng: np.random.Generator) -> list[list[GatedImage]]:
    return [entries[i] for i in rng.permutation(len(entries))]
