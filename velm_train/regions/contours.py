"""The pixels of one region go in; its outline as a short polygon in original pixels comes out."""

import numpy as np
from skimage.measure import approximate_polygon, find_contours

from velm_train.core.shapes import BoolMap, ContourPoints

TOLERANCE_PX = 1.0
"""How far the simplified outline may stray from the true one."""


def outline(pred_mask: BoolMap, *, offset_xy: tuple[int, int]) -> ContourPoints:
    """Returns the longest outline of a mask, simplified; the last point joins the first.

    Args:
        pred_mask: pixels of the region within a window of the image; at least one is set.
        offset_xy: position of the window's first pixel in the image.

    Returns:
        int32 (points, 2), (x, y) in original pixels, each inside the window; at least one point.
    """
    padded = np.pad(pred_mask, 1).astype(np.float32)  # so that a region at the image's edge closes there
    longest = max(find_contours(padded, 0.5), key=len)[:-1]  # (points, 2) as (row, column), without the repeated end
    simplified = approximate_polygon(np.concatenate([longest, longest[:1]]), TOLERANCE_PX)[:-1]
    if len(simplified) < 3:
        simplified = longest
    inside = np.clip(np.rint(simplified - 1), 0, np.array(pred_mask.shape) - 1).astype(np.int32)
    moved: np.ndarray = inside[:, ::-1] + np.array(offset_xy, dtype=np.int32)
    repeated = (moved == np.roll(moved, 1, axis=0)).all(axis=1)
    return moved[:1] if repeated.all() else moved[~repeated]
