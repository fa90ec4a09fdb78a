"""One anomaly map goes in; the threshold at which its number of components stays the same for longest comes out.

Main-element binarisation (MEBin) of AnomalyNCD (Huang et al. 2025, arXiv 2410.14379, section 3.2): a defect stands
out over a range of thresholds, noise only at some. Two things differ. The range that is searched comes from the image's
own map and the category's frozen pixel threshold, where the published one is stretched over the maps of the whole test
set, so that an image's regions would depend on the other images. And thresholds are raw units, not 8-bit grey.
"""

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from velm_train.core.records import SizeHW
from velm_train.core.shapes import AnomalyMap
from velm_train.regions.resample import upsample_map

WORKING_SIDE_PX = 256
"""Longer side of the map in which components are counted, the published resolution."""

EROSION_PX = 6
"""Side of the square by which everything above a threshold is eroded before components are counted."""

MIN_RUN = 4
"""Thresholds in a row with equal, non-zero counts that make a stable interval."""

_LEVELS = np.arange(255, 0, -4) / 255
"""Thresholds from the top of the range to its bottom, as shares of it: 64 of them."""

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=np.bool_)


def stable_threshold(anomaly_map: AnomalyMap, *, image_size_hw: SizeHW, low: float, high: float) -> float | None:
    """Returns the lowest threshold of the longest run of equal component counts.

    Args:
        anomaly_map: covers the whole image.
        image_size_hw: of the image, pixels; its aspect is that of the working map.
        low: bottom of the range, raw units.
        high: top of the range, raw units.

    Returns:
        A threshold in (low, high), raw units, or None if no count stays for MIN_RUN thresholds or the range is empty.
    """
    if not low < high:
        return None
    scale = WORKING_SIDE_PX / max(image_size_hw)
    working_hw = (max(1, round(scale * image_size_hw[0])), max(1, round(scale * image_size_hw[1])))
    eroded = erode(upsample_map(anomaly_map, working_hw), side_px=EROSION_PX)
    thresholds = low + _LEVELS * (high - low)
    counts = [int(ndimage.label(eroded > threshold, structure=_EIGHT_NEIGHBOURS)[1]) for threshold in thresholds]
    end = _end_of_longest_run(counts)
    return None if end is None else float(thresholds[end])


def erode(values: Float[np.ndarray, "H W"], *, side_px: int) -> Float[np.ndarray, "H W"]:
    """Returns the minimum over a square around each pixel; what is above a threshold then is the eroded mask.

    Pixels beyond the border do not erode.
    """
    eroded: np.ndarray = ndimage.minimum_filter(values, size=side_px, mode="constant", cval=np.inf)
    return eroded


def _end_of_longest_run(counts: list[int]) -> int | None:
    """Returns the last place of the longest run of equal non-zero counts, the first of several, or None."""
    best_length, best_end = MIN_RUN - 1, None
    start = 0
    for place, count in enumerate(counts):
        if count != counts[start]:
            start = place
        length = place - start + 1
        if count > 0 and length > best_length:
            best_length, best_end = length, place
    return best_end
