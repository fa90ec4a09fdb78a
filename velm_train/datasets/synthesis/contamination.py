"""Noise-shaped blots of another texture: a clean picture in, the contaminated picture out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from velm_train.core.shapes import BoolMap
from velm_train.datasets.defect_shapes import RGBFloat, luminance, smooth_step
from velm_train.datasets.defect_surface import Painted
from velm_train.datasets.synthesis.noise import fractal_noise
from velm_train.datasets.synthesis.places import (
    Place,
    fetch,
    lay_over,
    pick_point,
    place_at,
    radius_of,
    rotation,
)
from velm_train.datasets.synthesis.protocol import Donor

_PALETTES = np.array(
    [
        [[92, 42, 18], [196, 108, 46]],  # rust
        [[34, 31, 28], [98, 88, 76]],  # soot, oil
        [[196, 192, 182], [246, 244, 238]],  # lime, powder
        [[58, 74, 44], [142, 156, 106]],  # mould
        [[24, 70, 74], [112, 176, 164]],  # verdigris
    ],
    dtype=np.float32,
)
"""Dark and light tone of deposits that parts pick up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PerlinTexture:
    """Blots cut out of Perlin noise by a threshold, filled with another texture and mixed with what lies below.

    Zavrtanik et al. 2021, "DRAEM", section 3.3: image = (1 - M) I + b (M I) + (1 - b) (M A). Deviations: the noise
    falls off around a point, so that the blots stay together and their area can be chosen; the texture A is a palette
    of common deposits on the tones of a donor picture or of noise, since no bank of other textures is at hand; the
    blots' edges are soft; and b stays below 0.6, so that a labelled defect can be seen.

    Attributes:
        area_fraction: low and high share of the foreground.
        opacity: low and high of 1 - b.
        cell_fraction: low and high size of the noise's cells, in radii of a disc of the same area.
    """

    area_fraction: tuple[float, float]
    opacity: tuple[float, float]
    cell_fraction: tuple[float, float]

    def __call__(
        self, clean: RGBFloat, *, donors: Sequence[Donor], foreground: BoolMap, rng: np.random.Generator
    ) -> Painted:
        """Lays one deposit; its tones follow a donor's texture in half the draws, if there is one."""
        size_hw = (clean.shape[0], clean.shape[1])
        radius = radius_of(foreground, area_fraction=rng.uniform(*self.area_fraction))
        place = place_at(pick_point(foreground, rng), reach_px=3.0 * radius + 2.0, size_hw=size_hw)
        window_hw = (place.dy.shape[0], place.dy.shape[1])
        cell = max(radius * rng.uniform(*self.cell_fraction), 3.0)
        noise = fractal_noise(rng, size_hw=window_hw, cell_px=cell, octaves=5)
        field = 1.3 * noise - (np.hypot(place.dy, place.dx) / np.float32(1.7 * radius)) ** 2
        num_pixels = min(int(np.pi * radius**2), field.size - 1)
        level = np.partition(field.ravel(), field.size - num_pixels)[field.size - num_pixels]
        edge = np.float32(0.12)
        body = smooth_step((field - level) / edge) * foreground[place.window]
        thickness = (np.float32(0.75) + np.float32(0.25) * smooth_step((field - level) / np.float32(0.8))) * body
        tones = self._tones(place, donors, rng, cell_px=cell)
        dark, light = _PALETTES[rng.permutation(_far_palettes(clean[place.window]))[0]]
        texture = dark + tones[..., None] * (light - dark)
        amount = thickness * np.float32(rng.uniform(*self.opacity))
        painted = lay_over(clean, texture, amount, place=place)
        coverage = np.zeros(size_hw, dtype=np.float32)
        coverage[place.window] = body
        return Painted(image=painted.image, coverage=coverage)

    def _tones(
        self, place: Place, donors: Sequence[Donor], rng: np.random.Generator, *, cell_px: float
    ) -> Float32[np.ndarray, "h w"]:
        """Returns a texture in 0..1: a donor's brightness, stretched, or noise."""
        size_hw = (place.dy.shape[0], place.dy.shape[1])
        mottle = (fractal_noise(rng, size_hw=size_hw, cell_px=max(cell_px / 3, 2.0), octaves=4) * 0.9 + 0.5).clip(0, 1)
        if not donors or rng.random() < 0.5:
            return mottle
        donor = donors[int(rng.integers(len(donors)))]
        centre = (rng.uniform(0.2, 0.8) * donor.shape[0], rng.uniform(0.2, 0.8) * donor.shape[1])
        turned = rotation(rng.uniform(0.0, 2 * np.pi), scale=rng.uniform(0.6, 1.6))
        tones = luminance(fetch(donor, place, centre=centre, matrix=turned))
        low, high = np.percentile(tones, [2, 98])
        stretched = ((tones - low) / max(high - low, 8.0)).astype(np.float32)
        mixed: Float32[np.ndarray, "h w"] = (stretched * 0.6 + mottle * 0.4).clip(0, 1)
        return mixed


def _far_palettes(surface: RGBFloat) -> np.ndarray:
    """Returns the palettes that differ from the surface: the farthest three."""
    mean = surface.mean(axis=(0, 1))
    distance = np.linalg.norm(_PALETTES.mean(axis=1) - mean, axis=1)
    return np.argsort(-distance, kind="stable")[:3]


PERLIN_TEXTURE = PerlinTexture(area_fraction=(0.015, 0.06), opacity=(0.55, 0.95), cell_fraction=(0.7, 1.8))
