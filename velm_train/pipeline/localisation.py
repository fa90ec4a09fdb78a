"""Judged test images in; how well their anomaly maps find the place of the defect out, over ground-truth masks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from velm_train.core.images import read_gt_masks
from velm_train.core.scores import LocalisationScores
from velm_train.core.shapes import AnomalyMap, BoolMap
from velm_train.metrics.localisation import PixelCounts, count_pixels, localisation_scores, value_edges
from velm_train.pipeline.looking import GatedImage
from velm_train.regions.resample import upsample_map


def has_outline(image: GatedImage) -> bool:
    """Returns whether every pixel of an image is known to be defective or not."""
    return not image.record.gt_label or bool(image.record.gt_mask_paths)


def count_category(images: Sequence[GatedImage]) -> PixelCounts:
    """Counts the pixels of one category's images, at the images' own resolution, one image at a time.

    Args:
        images: at least one, each with an outline.

    Raises:
        DataError: if a mask cannot be read.
    """
    return count_pixels(_pairs(images), edges=value_edges([image.detection.anomaly_map for image in images]))


def _pairs(images: Sequence[GatedImage]) -> Iterator[tuple[AnomalyMap, BoolMap]]:
    for image in images:
        record = image.record
        gt_mask = (
            read_gt_masks(record.gt_mask_paths, size_hw=record.size_hw)
            if record.gt_label
            else np.zeros(record.size_hw, dtype=np.bool_)
        )
        yield upsample_map(image.detection.anomaly_map, record.size_hw), gt_mask


@dataclass(frozen=True, kw_only=True, slots=True)
class Localisation:
    """Figures of all categories together, and of each."""

    overall: LocalisationScores
    categories: Mapping[str, LocalisationScores]


def localise(images: Mapping[str, Sequence[GatedImage]], *, num_bootstrap: int, seed: int) -> Localisation:
    """Scores the maps of test images; a note counts the defective ones that have no mask and are left out.

    Args:
        images: category -> its test images.
        num_bootstrap: number of resamples for the intervals.
        seed: root seed.

    Raises:
        DataError: if a mask cannot be read.
    """
    outlined = {name: [one for one in many if has_outline(one)] for name, many in images.items()}
    counts = {name: count_category(many) for name, many in outlined.items() if many}

    def scores(names: Sequence[str]) -> LocalisationScores:
        return localisation_scores(
            {name: counts[name] for name in names if name in counts},
            strata={name: _strata(outlined[name]) for name in names},
            note=_left_out(sum(len(images[name]) - len(outlined[name]) for name in names)),
            num_bootstrap=num_bootstrap,
            seed=seed,
        )

    return Localisation(overall=scores(list(images)), categories={name: scores([name]) for name in images})


def _left_out(num_images: int) -> str:
    return f"defective images without a mask left out: {num_images}" if num_images else ""


def _strata(images: Sequence[GatedImage]) -> Int[np.ndarray, " n"]:
    """Numbers the types, so that a resample keeps how many images there are of each."""
    types = sorted({image.record.defect_type for image in images})
    return np.array([types.index(image.record.defect_type) for image in images], dtype=np.int64)
