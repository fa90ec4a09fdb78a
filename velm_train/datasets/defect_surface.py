"""What a defect must know of the surface it lies on: a clean picture in, its tones and a visible step of tone out."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from velm_train.datasets.defect_shapes import Colour, Coverage, RGBFloat, luminance

DARK_LUMINANCE = 75.0
"""Below this mean luminance a darker mark does not show, so marks turn to lighter tones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Painted:
    """A picture with a defect and how much of each pixel the defect covers, before the coverage threshold."""

    image: RGBFloat
    coverage: Coverage


@dataclass(frozen=True, kw_only=True, slots=True)
class Surface:
    """Tones of a clean picture.

    Attributes:
        mean_colour: mean RGB, 0..255.
        mean_luminance: mean luma, 0..255.
        contrast: standard deviation of the luma, grey levels.
    """

    mean_colour: Colour
    mean_luminance: float
    contrast: float

    @property
    def is_dark(self) -> bool:
        """True if a darker mark would not show."""
        return self.mean_luminance < DARK_LUMINANCE

    @property
    def visible_step(self) -> float:
        """Change of tone, in grey levels, that stands out as much on a busy texture as on a calm one."""
        return float(np.clip(30.0 + 1.5 * self.contrast, 30.0, 95.0))

    def tone(self, step: float) -> Colour:
        """Returns the mean colour made lighter (step > 0) or darker (step < 0) by that many grey levels."""
        if step >= 0:
            return np.minimum(self.mean_colour + step, 252.0)
        return np.maximum(self.mean_colour * max(0.08, 1.0 + step / max(self.mean_luminance, 1.0)), 4.0)

    def contrasting(self, colours: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, " n"]:
        """Returns which colours differ enough from the surface; the farthest one always does."""
        distance = np.linalg.norm(colours - self.mean_colour, axis=1)
        enough: Bool[np.ndarray, " n"] = distance >= min(100.0, float(distance.max()))
        return enough


def read_surface(clean: RGBFloat) -> Surface:
    """Measures a clean picture on every fourth pixel of every fourth row."""
    sample = np.ascontiguousarray(clean[::4, ::4])
    luma = luminance(sample)
    return Surface(
        mean_colour=sample.mean(axis=(0, 1), dtype=np.float64),
        mean_luminance=float(luma.mean()),
        contrast=float(luma.std()),
    )


def blend(image: RGBFloat, colour: Colour, coverage: Coverage) -> RGBFloat:
    """Returns the image with a flat colour laid over it."""
    blended: RGBFloat = image + coverage[..., None] * (colour.astype(np.float32) - image)
    return blended


def to_light(colour: Colour, share: float) -> Colour:
    """Returns a colour moved towards white by a share in 0..1."""
    return colour + share * (255.0 - colour)
