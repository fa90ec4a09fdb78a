"""The box of a region goes in; the square box of the picture to cut out around it comes out."""

import math

from velm_train.core.errors import DataError
from velm_train.core.records import BoxXYXY, SizeHW


def crop_box(region_box_xyxy: BoxXYXY, image_size_hw: SizeHW, *, margin_fraction: float, min_size_px: int) -> BoxXYXY:
    """Returns a box at native resolution that holds the region with context around it.

    The wanted side is the region's longer side, widened by the margin on both ends, and at least `min_size_px`. The
    box is centred on the region and shifted, not shrunk, to lie in the image. What the image cannot hold gives way in
    this order: the margin (and the minimum) down to the image's shorter side, then the square shape, where the region
    itself is longer than that side. The region always lies inside the box, and the box inside the image.

    Args:
        region_box_xyxy: half-open, original pixels, inside the image.
        image_size_hw: of the image, pixels.
        margin_fraction: context on each end as a share of the region's longer side, at least 0.
        min_size_px: smallest side wanted.

    Raises:
        DataError: if the region's box does not lie in the image.
    """
    height, width = image_size_hw
    x0, y0, x1, y1 = region_box_xyxy
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise DataError(f"region box {region_box_xyxy} does not lie in its image of {height}x{width} pixels")
    longer = max(x1 - x0, y1 - y0)
    wanted = max(math.ceil(longer * (1 + 2 * margin_fraction)), min_size_px)
    side = min(wanted, max(min(height, width), longer))
    left, right = _interval(x0, x1, side=side, limit=width)
    top, bottom = _interval(y0, y1, side=side, limit=height)
    return left, top, right, bottom


def _interval(start: int, stop: int, *, side: int, limit: int) -> tuple[int, int]:
    """Centres an interval of length min(side, limit) on [start, stop) and shifts it into [0, limit)."""
    length = min(side, limit)
    first = min(max((start + stop - length) // 2, 0), limit - length)
    return first, first + length
