"""Gated images go in; the same questions with blank evidence, or a stratified part of the images, come out."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from velm_train.collation.collate import ViewFeatures
from velm_train.core.records import NORMAL_DEFECT_TYPE, SizeHW, View
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
    """Returns a part of the images with at most `max_flagged` flagged ones, in which every stratum keeps its share.

    Flagged images and those that the gate lets pass are drawn in the same proportion within every category and true
    type, so that misses, false alarms and all that rests on them are in the part as in the whole. Images that pass cost
    nothing, but all of them beside some of the flagged ones would make the gate look as if it missed more. Every image
    has the same chance, so a type of few images may be absent. This decides which images a control row is scored on; no
    answer depends on it.

    Args:
        images: labelled gated images.
        max_flagged: flagged images to keep; 0 keeps all.
        seed: of the draw.
    """
    flagged = [image for image in images if image.decision.pred_label]
    if max_flagged == 0 or len(flagged) <= max_flagged:
        return list(images)
    passed = [image for image in images if not image.decision.pred_label]
    num_passed = round(len(passed) * max_flagged / len(flagged))
    rng = generator(seed, "stratified_part")
    kept = _in_shares(flagged, num=max_flagged, rng=rng) | _in_shares(passed, num=num_passed, rng=rng)
    return [image for image in images if image.image_id in kept]


def _in_shares(images: Sequence[GatedImage], *, num: int, rng: np.random.Generator) -> set[str]:
    """Draws images at equal steps from a random start, in the order of their strata and at random within each.

    Whatever stands together in that order has its share to within one image: defects and normals, the defects of a
    group, of a category, of a type (systematic sampling; Cochran, Sampling Techniques, 3rd edition, chapter 8).
    """
    if num == 0:
        return set()
    named = sorted(images, key=lambda image: image.image_id)
    ordered = sorted((named[i] for i in rng.permutation(len(named))), key=_stratum)
    start = int(rng.integers(len(ordered)))
    return {ordered[(start + i * len(ordered)) // num].image_id for i in range(num)}


def _stratum(image: GatedImage) -> tuple[bool, str, str, str]:
    return image.gt_defect_type == NORMAL_DEFECT_TYPE, image.group, image.category, str(image.gt_defect_type)
