"""Which material photographs become categories, at what scale, and which of them stay unseen by training."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True, slots=True)
class TextureSpec:
    """How camera shots are taken from one material photograph.

    Attributes:
        photo_px_per_px: photograph pixels to one image pixel along each axis; lowered where a part is too small.
        even_light: True to divide out the slow change of brightness and tint across the photograph, so that
            its left and right parts look alike.
    """

    photo_px_per_px: float
    even_light: bool


TEXTURES: Mapping[str, TextureSpec] = MappingProxyType(
    {
        "bamboo": TextureSpec(photo_px_per_px=1.2, even_light=True),
        "brick_red": TextureSpec(photo_px_per_px=0.7, even_light=False),
        "granite": TextureSpec(photo_px_per_px=0.8, even_light=False),
        "grass": TextureSpec(photo_px_per_px=0.7, even_light=True),
        "gravel": TextureSpec(photo_px_per_px=0.7, even_light=True),
        "linen": TextureSpec(photo_px_per_px=1.0, even_light=False),
        "metal_brushed": TextureSpec(photo_px_per_px=0.85, even_light=True),
        "metal_cast": TextureSpec(photo_px_per_px=0.7, even_light=False),
        "metal_satin": TextureSpec(photo_px_per_px=0.7, even_light=False),
        "plaster": TextureSpec(photo_px_per_px=0.7, even_light=False),
        "vinyl_blue": TextureSpec(photo_px_per_px=0.8, even_light=False),
        "wood_beech": TextureSpec(photo_px_per_px=0.8, even_light=True),
        "wood_dark": TextureSpec(photo_px_per_px=0.7, even_light=True),
        "wood_oak": TextureSpec(photo_px_per_px=0.7, even_light=True),
    }
)
"""Category, which is also the photograph's file name without `.png`, -> how to shoot it."""

SEEN_TEXTURES: tuple[str, ...] = (
    "bamboo", "brick_red", "granite", "grass", "gravel", "linen", "metal_brushed", "metal_cast", "plaster", "wood_oak"
)  # fmt: skip
"""Categories whose defects the language model may learn from."""

UNSEEN_TEXTURES: tuple[str, ...] = ("metal_satin", "vinyl_blue", "wood_beech", "wood_dark")
"""Categories whose defects are for testing alone."""
