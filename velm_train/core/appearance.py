"""A picture in, the same mirrored, turned or lit out; and what lies on it, moved along: maps, masks, boxes, outlines.

(H, W) ─► mirror left-right ─► quarter turns, counter-clockwise ─► contrast about the mean grey ─► brightness
"""

from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np
from jaxtyping import UInt8

from velm_train.core.shapes import ContourPoints, RGBImage

Plane = TypeVar("Plane", bound=np.ndarray)
"""Anything that covers a picture: the picture itself, a map or a mask at any resolution, rows and columns first."""

_LARGEST_VALUE = 255


@dataclass(frozen=True, kw_only=True, slots=True)
class Appearance:
    """How a picture is shown otherwise than it lies on disk.

    Attributes:
        mirrored: True to exchange left and right, before turning.
        quarter_turns: counter-clockwise, 0 to 3.
        brightness: factor of all values, above 0; 1 leaves them.
        contrast: factor of their distance from the picture's mean, above 0; 1 leaves them.
    """

    mirrored: bool = False
    quarter_turns: int = 0
    brightness: float = 1.0
    contrast: float = 1.0

    @property
    def exchanges_sides(self) -> bool:
        """True if height becomes width."""
        return self.quarter_turns % 2 == 1

    @property
    def moves(self) -> bool:
        """True if things change their places."""
        return self.mirrored or self.quarter_turns != 0

    def size_hw(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Returns height and width of a picture that had this size."""
        return (size_hw[1], size_hw[0]) if self.exchanges_sides else size_hw

    def plane(self, values: Plane) -> Plane:
        """Returns a picture, a map or a mask with everything at its new place; values stay what they are."""
        mirrored = values[:, ::-1] if self.mirrored else values
        return cast("Plane", np.ascontiguousarray(np.rot90(mirrored, self.quarter_turns)))

    def picture(self, image: RGBImage) -> UInt8[np.ndarray, "shown_h shown_w 3"]:
        """Returns the picture as it is shown."""
        if self == AS_IT_IS:
            return image
        moved = self.plane(image)
        if self.brightness == self.contrast == 1.0:
            return moved
        mean = moved.mean()
        lit = (mean + (moved.astype(np.float32) - mean) * self.contrast) * self.brightness
        shown: np.ndarray = np.clip(np.rint(lit), 0, _LARGEST_VALUE).astype(np.uint8)
        return shown

    def box_xyxy(self, box_xyxy: tuple[int, int, int, int], size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
        """Returns where a half-open box of a picture of this size comes to lie."""
        x0, y0, x1, y1 = box_xyxy
        height, width = size_hw
        if self.mirrored:
            x0, x1 = width - x1, width - x0
        for _ in range(self.quarter_turns):
            x0, y0, x1, y1 = y0, width - x1, y1, width - x0
            height, width = width, height
        return x0, y0, x1, y1

    def contour(self, contour: ContourPoints, size_hw: tuple[int, int]) -> ContourPoints:
        """Returns where the pixels (x, y) of an outline come to lie."""
        x, y = contour[:, 0], contour[:, 1]
        height, width = size_hw
        if self.mirrored:
            x = width - 1 - x
        for _ in range(self.quarter_turns):
            x, y = y, width - 1 - x
            height, width = width, height
        return np.stack([x, y], axis=1).astype(contour.dtype)


AS_IT_IS = Appearance()
"""Every value and every place as on disk."""
