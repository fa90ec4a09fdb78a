"""Anomaly maps and ground-truth masks go in; how well the maps find the place of a defect comes out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from velm_train.core.errors import DataError

PUBLISHED_LIMIT = 0.3
"""False-positive rate up to which the published AUPRO is integrated (Bergmann et al. 2021, section 5.2)."""

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=np.bool_)


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalisationScores:
    """Both figures in 0..1.

    Attributes:
        pixel_auroc: chance that a defect pixel outranks another one, ties half.
        aupro: area under the per-region overlap up to the limit of the false-positive rate, divided by the limit.
        num_regions: connected regions of the masks.
    """

    pixel_auroc: float
    aupro: float
    num_regions: int


def localisation_scores(
    anomaly_maps: Sequence[Float[np.ndarray, "_ _"]], gt_masks: Sequence[Bool[np.ndarray, "_ _"]], *, limit: float
) -> LocalisationScores:
    """Returns pixel AUROC and AUPRO of one category.

    The per-region overlap at a threshold is the mean over regions of the share of their pixels at or above it, so that
    a small defect counts as much as a large one; the false-positive rate is the share of all other pixels at or above
    it (Bergmann et al. 2021, "The MVTec Anomaly Detection Dataset", IJCV 129, section 5.2). The curve is exact: every
    distinct map value is a threshold.

    Args:
        anomaly_maps: at the size of the masks, raw units; normal images included.
        gt_masks: one a map; all False for a normal image.
        limit: largest false-positive rate, in (0, 1]; PUBLISHED_LIMIT is usual.

    Raises:
        DataError: if a map and its mask differ in size, or there is no defect pixel or no other one.
    """
    if [one.shape for one in anomaly_maps] != [one.shape for one in gt_masks]:
        raise DataError(
            f"{len(anomaly_maps)} anomaly maps and {len(gt_masks)} masks; one mask of its map's size is needed for each"
        )
    values, weights, num_regions = _weigh(anomaly_maps, gt_masks)
    if num_regions == 0 or not (weights == 0).any():
        raise DataError("localisation needs defect pixels and other pixels; these masks lack one of them")
    order = np.argsort(-values, kind="stable")
    values, weights = values[order], weights[order]
    last = np.append(np.flatnonzero(np.diff(values)), values.size - 1)  # the last pixel of every distinct value
    normal = weights == 0
    false_positives = np.concatenate([[0.0], np.cumsum(normal)[last] / normal.sum()])
    true_positives = np.concatenate([[0.0], np.cumsum(~normal)[last] / (~normal).sum()])
    overlaps = np.concatenate([[0.0], np.cumsum(weights)[last] / num_regions])
    return LocalisationScores(
        pixel_auroc=float(np.trapezoid(true_positives, false_positives)),
        aupro=_area_up_to(false_positives, overlaps, limit=limit) / limit,
        num_regions=num_regions,
    )


def _weigh(
    anomaly_maps: Sequence[np.ndarray], gt_masks: Sequence[np.ndarray]
) -> tuple[Float[np.ndarray, " pixels"], Float[np.ndarray, " pixels"], int]:
    """Returns every pixel's value, its share of its region (0 outside), and the number of regions."""
    values, weights, num_regions = [], [], 0
    for anomaly_map, gt_mask in zip(anomaly_maps, gt_masks, strict=True):
        labels, found = ndimage.label(gt_mask, structure=_EIGHT_NEIGHBOURS)
        sizes = np.bincount(labels.ravel(), minlength=found + 1).astype(np.float64)
        shares = np.zeros(found + 1)
        shares[1:] = 1 / sizes[1:]
        values.append(anomaly_map.ravel().astype(np.float64))
        weights.append(shares[labels.ravel()])
        num_regions += int(found)
    if not values:
        return np.empty(0), np.empty(0), 0
    return np.concatenate(values), np.concatenate(weights), num_regions


def _area_up_to(x: Float[np.ndarray, " k"], y: Float[np.ndarray, " k"], *, limit: float) -> float:
    """Returns the area under a polyline from 0 to the limit; the piece that crosses it is cut."""
    inside = x <= limit
    cut_x = np.append(x[inside], limit)
    cut_y = np.append(y[inside], np.interp(limit, x, y))
    return float(np.trapezoid(cut_y, cut_x))
