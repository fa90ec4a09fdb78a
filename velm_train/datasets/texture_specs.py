"""Which material photographs become categories, at what scale, and which of them stay unseen by training."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

PIECES_HW = (6, 5)
"""Rows and columns of pieces that a photograph is cut into; every normal image shows a piece of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextureSpec:
    """How camera shots are taken from one material photograph.

    Attributes:
        photo_px_per_px: photograph pixels to one image pixel along each axis; lowered where a piece is too small.
        even_light: True to divide out the slow change of brightness and tint across the photograph, so that
            its pieces look alike.
    """

    photo_px_per_px: float
    even_light: bool


TEXTURES: Mapping[str, TextureSpec] = MappingProxyType(
    {
        "bamboo": TextureSpec(photo_px_per_px=0.9, even_light=True),
        "brick_red": TextureSpec(photo_px_per_px=0.5, even_light=False),
        "granite": TextureSpec(photo_px_per_px=0.5, even_light=False),
        "linen": TextureSpec(photo_px_per_px=0.8, even_light=False),
        "metal_brushed": TextureSpec(photo_px_per_px=0.6, even_light=True),
        "metal_cast": TextureSpec(photo_px_per_px=0.5, even_light=False),
        "metal_satin": TextureSpec(photo_px_per_px=0.5, even_light=False),
        "plaster": TextureSpec(photo_px_per_px=0.5, even_light=False),
        "vinyl_blue": TextureSpec(photo_px_per_px=0.5, even_light=False),
        "wood_beech": TextureSpec(photo_px_per_px=0.5, even_light=True),
        "wood_dark": TextureSpec(photo_px_per_px=0.5, even_light=True),
        "wood_oak": TextureSpec(photo_px_per_px=0.5, even_light=True),
        "wood_veneer": TextureSpec(photo_px_per_px=0.5, even_light=False),
    }
)
"""Category, which is also the photograph's file name without `.png`, -> how to shoot it.

Manufactured or dressed surfaces whose pieces look alike; grass and gravel, printed patterns, worn and jointed surfaces
among the photographs are left out, because a good part of them has nothing in common with the next.
"""

SEEN_TEXTURES: tuple[str, ...] = (
    "bamboo", "brick_red", "linen", "metal_brushed", "metal_cast", "plaster", "wood_oak", "wood_veneer"
)  # fmt: skip
"""Categories whose defects the language model may learn from.

Granite is in neither list and only made when asked for: its own speckles hide defects of this size. A PatchCore gate
on DINOv2 misses 13 of 32 of them at the threshold of the largest leave-one-out score.
"""

UNSEEN_TEXTURES: tuple[str, ...] = ("metal_satin", "vinyl_blue", "wood_beech", "wood_dark")
"""Categories whose defects are for testing alone."""
