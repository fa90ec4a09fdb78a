"""One labelled defect with its exact mask: a good picture and an operator in, 8-bit pixels and mask out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int16
from scipy.ndimage import binary_closing, label

from velm_train.core.shapes import BoolMap, RGBImage
from velm_train.datasets.defect_shapes import Coverage, RGBFloat, luminance
from velm_train.datasets.defects import MIN_COVERAGE
from velm_train.datasets.synthesis.protocol import Operator

MIN_SIDE_PX = 64
"""Smaller pictures have no room for a defect of a shape that can be told from another."""

MIN_AREA_FRACTION = 0.002
MAX_AREA_FRACTION = 0.12
"""Share of the foreground that a defect may cover."""

MIN_CHANGE = 4
"""Grey levels in any channel from which a pixel is changed."""

MIN_MEAN_CHANGE = 9.0
"""Grey levels: mean over the mask of the largest change among the channels, below which a defect would not be seen."""

_MIN_WITHIN = 0.5
"""Share of the mask that lies on the foreground."""

_MAX_DRAWS = 40
_MARGIN_FRACTION = 0.06


@dataclass(frozen=True, kw_only=True, slots=True)
class SyntheticDefect:
    """A picture with one defect; outside `gt_mask` it equals the good picture in every bit."""

    image: RGBImage
    gt_mask: BoolMap


def make_defect(
    good: RGBImage,
    *,
    operator: Operator,
    donors: Sequence[np.ndarray],
    foreground: BoolMap | None,
    rng: np.random.Generator,
) -> SyntheticDefect | None:
    """Lays one defect on a good picture, drawing again until its size is permitted and it can be seen.

    The operator works in the foreground's window, so that a small part in a large picture gets small defects.

    Args:
        good: picture with both sides at least MIN_SIDE_PX.
        operator: what makes the defect.
        donors: other good pictures, RGB uint8 (H, W, 3) of any size; may be empty.
        foreground: where the part lies, or None if it fills the picture.
        rng: the only source of randomness.

    Returns:
        The defect, or None if no draw was permitted.
    """
    assert min(good.shape[:2]) >= MIN_SIDE_PX, good.shape
    part = np.ones(good.shape[:2], dtype=np.bool_) if foreground is None else foreground
    window = _window(part)
    part = part[window]
    clean_8_bits = good[window]
    clean = clean_8_bits.astype(np.float32)
    cut_donors = [(donor[window] if donor.shape == good.shape else donor).astype(np.float32) for donor in donors]
    is_grey = bool((good == good[..., :1]).all())
    for _ in range(_MAX_DRAWS):
        painted = operator(clean, donors=cut_donors, foreground=part, rng=rng)
        pixels = _to_8_bits(painted.image, is_grey=is_grey)
        change = np.abs(pixels.astype(np.int16) - clean_8_bits).max(axis=2)
        inner = _changed_places(change, painted.coverage)
        if _is_permitted(inner, change, part):
            image, gt_mask = good.copy(), np.zeros(good.shape[:2], dtype=np.bool_)
            image[window] = np.where(inner[..., None], pixels, clean_8_bits)
            gt_mask[window] = inner
            return SyntheticDefect(image=image, gt_mask=gt_mask)
    return None


def _window(part: BoolMap) -> tuple[slice, slice]:
    """Returns the foreground's box with a margin, at least MIN_SIDE_PX high and wide."""
    slices = []
    for axis, side in enumerate(part.shape):
        at = np.flatnonzero(part.any(axis=1 - axis))
        low, high = int(at[0]), int(at[-1]) + 1
        margin = max(round(_MARGIN_FRACTION * (high - low)), (MIN_SIDE_PX - (high - low) + 1) // 2, 0)
        low, high = max(0, low - margin), min(side, high + margin)
        if high - low < MIN_SIDE_PX:
            low, high = (0, MIN_SIDE_PX) if low == 0 else (side - MIN_SIDE_PX, side)
        slices.append(slice(low, high))
    return slices[0], slices[1]


def _to_8_bits(painted: RGBFloat, *, is_grey: bool) -> RGBImage:
    """Rounds; a camera without colour sees a coloured defect as grey."""
    values = np.repeat(luminance(painted)[..., None], 3, axis=2) if is_grey else painted
    rounded: RGBImage = np.rint(values).clip(0, 255).astype(np.uint8)
    return rounded


def _changed_places(change: Int16[np.ndarray, "h w"], coverage: Coverage) -> BoolMap:
    """Returns the covered pixels that changed, small gaps between them closed, without specks apart from the rest.

    On a texture some covered pixels keep their value by chance; a mask with such pinholes would be no better.
    """
    covered = coverage >= MIN_COVERAGE
    changed = covered & (change >= MIN_CHANGE)
    reach = max(1, round(min(change.shape) / 150))
    closed = binary_closing(np.pad(changed, reach), iterations=reach)[reach:-reach, reach:-reach] & covered
    pieces, _ = label(closed, structure=np.ones((3, 3)))
    areas = np.bincount(pieces.ravel())
    areas[0] = 0
    kept: BoolMap = (areas >= max(4, areas.max() / 50))[pieces]
    return kept


def _is_permitted(gt_mask: BoolMap, change: Int16[np.ndarray, "h w"], part: BoolMap) -> bool:
    area, within, whole = (int(np.count_nonzero(pixels)) for pixels in (gt_mask, gt_mask & part, part))
    if not MIN_AREA_FRACTION <= area / whole <= MAX_AREA_FRACTION or within < _MIN_WITHIN * area:
        return False
    return float(change[gt_mask].mean()) >= MIN_MEAN_CHANGE
