"""Where the part lies on a plain background: a picture in, its foreground out, or None if it fills the picture."""

import numpy as np
from jaxtyping import Float32
from PIL import Image
from scipy.ndimage import binary_closing, binary_fill_holes, binary_opening, gaussian_filter, label
from skimage.filters import threshold_otsu

from velm_train.core.shapes import BoolMap, RGBImage

_SKETCH_SIDE_PX = 256
_BORDER_FRACTION = 0.03
_MIN_BORDER_FRACTION = 0.8
"""A background is one colour on at least this share of the picture's border."""

_MIN_AREA_FRACTION = 0.02
_MAX_AREA_FRACTION = 0.85
_MIN_SEPARATION = 0.72
"""Otsu's share of the variance between the classes; two halves of one bell curve have 0.64."""

_MIN_STEP = 18.0
"""Grey levels between the mean distances of part and background from the border's colour."""


def find_foreground(image: RGBImage) -> BoolMap | None:
    """Returns the pixels of a part on a plain background, holes filled, or None if there is no such background.

    The distance of every pixel's colour from the median colour of the border is cut at Otsu's threshold (Otsu 1979).

    Args:
        image: picture of any size.
    """
    sketch = _sketch(image)
    ring = _border(sketch)
    distance = np.linalg.norm(sketch - np.median(sketch[ring], axis=0), axis=2)
    if float(np.ptp(distance)) < _MIN_STEP:
        return None
    part = distance > threshold_otsu(distance)
    step = float(distance[part].mean() - distance[~part].mean())
    separation = float(part.mean() * (1 - part.mean()) * step**2 / distance.var())
    if step < _MIN_STEP or separation < _MIN_SEPARATION or (~part)[ring].mean() < _MIN_BORDER_FRACTION:
        return None
    solid = binary_fill_holes(binary_opening(binary_closing(np.pad(part, 3, mode="edge"), iterations=2), iterations=1))
    kept = _large_pieces(solid[3:-3, 3:-3])
    if not _MIN_AREA_FRACTION <= kept.mean() <= _MAX_AREA_FRACTION:
        return None
    height, width = image.shape[:2]
    enlarged = Image.fromarray(kept.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BILINEAR)
    foreground: BoolMap = np.asarray(enlarged) > 127
    return foreground if foreground.any() else None


def _sketch(image: RGBImage) -> Float32[np.ndarray, "h w 3"]:
    """Returns the picture with its longer side at most 256 pixels, a little smoothed."""
    scale = min(1.0, _SKETCH_SIDE_PX / max(image.shape[:2]))
    size_wh = (max(8, round(image.shape[1] * scale)), max(8, round(image.shape[0] * scale)))
    small = np.asarray(Image.fromarray(image).resize(size_wh, Image.Resampling.BOX), dtype=np.float32)
    smoothed: Float32[np.ndarray, "h w 3"] = gaussian_filter(small, (1.0, 1.0, 0.0))
    return smoothed


def _border(sketch: Float32[np.ndarray, "h w 3"]) -> BoolMap:
    width = max(2, round(_BORDER_FRACTION * min(sketch.shape[:2])))
    ring = np.ones(sketch.shape[:2], dtype=np.bool_)
    ring[width:-width, width:-width] = False
    return ring


def _large_pieces(part: BoolMap) -> BoolMap:
    """Returns the connected pieces with at least a tenth of the largest one's area."""
    pieces, _ = label(part)
    areas = np.bincount(pieces.ravel())
    areas[0] = 0
    large: BoolMap = (areas >= max(1, areas.max() // 10))[pieces]
    return large
