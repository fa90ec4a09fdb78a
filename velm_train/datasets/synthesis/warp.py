"""A place of the part is pushed out of shape: a clean picture in, the warped picture out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion, map_coordinates

from velm_train.core.shapes import BoolMap
from velm_train.datasets.defect_shapes import RGBFloat, smooth_step
from velm_train.datasets.defect_surface import Painted
from velm_train.datasets.synthesis.noise import fractal_noise
from velm_train.datasets.synthesis.places import Offsets, Place, lay_over, pick_point, place_at, radius_of
from velm_train.datasets.synthesis.protocol import Donor

_LIGHT_YX = (0.8, 0.6)
"""Unit vector in the image plane away from the lamp, as for the painted defects."""

_STEEPEST_SLOPE = 1.5
"""Largest slope of `smooth_step`, per radius."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Warp:
    """A smooth local displacement with the shading of a dent.

    Attributes:
        area_fraction: low and high share of the foreground.
        push: low and high displacement at the centre, in radii; above 0.66 the picture folds over itself.
        shading: change of brightness on the steepest slope, low and high, grey levels.
    """

    area_fraction: tuple[float, float]
    push: tuple[float, float]
    shading: tuple[float, float]

    def __call__(
        self, clean: RGBFloat, *, donors: Sequence[Donor], foreground: BoolMap, rng: np.random.Generator
    ) -> Painted:
        """Pushes one place, more often at the part's edge than elsewhere; donors are not used."""
        del donors
        size_hw = (clean.shape[0], clean.shape[1])
        radius = radius_of(foreground, area_fraction=rng.uniform(*self.area_fraction))
        edge = foreground & ~binary_erosion(foreground, border_value=1)
        at_edge = bool(edge.any()) and rng.random() < 0.7
        place = place_at(pick_point(edge if at_edge else foreground, rng), reach_px=radius + 2, size_hw=size_hw)
        fade = smooth_step(1.0 - np.hypot(place.dy, place.dx) / np.float32(radius))
        shift_y, shift_x = self._push(place, rng, radius_px=radius)
        pixels = _moved(clean, place, shift_y=shift_y * fade, shift_x=shift_x * fade)
        slope_y, slope_x = np.gradient(fade)
        depth = rng.choice([-1.0, 1.0]) * rng.uniform(*self.shading) * radius / _STEEPEST_SLOPE
        relief = (slope_y * _LIGHT_YX[0] + slope_x * _LIGHT_YX[1]) * np.float32(depth) * foreground[place.window]
        painted = pixels + relief[..., None].astype(np.float32)
        return lay_over(clean, painted, (fade > 0).astype(np.float32), place=place)

    def _push(self, place: Place, rng: np.random.Generator, *, radius_px: float) -> tuple[Offsets, Offsets]:
        """Returns how far each pixel of the window is pushed down and right, in pixels: one way, with some waves."""
        angle, length = rng.uniform(0.0, 2 * np.pi), np.float32(rng.uniform(*self.push) * radius_px)
        size_hw = (place.dy.shape[0], place.dy.shape[1])
        waves = [fractal_noise(rng, size_hw=size_hw, cell_px=0.8 * radius_px, octaves=1) for _ in range(2)]
        down, right = (
            length * (np.float32(way) + np.float32(0.5) * wave)
            for way, wave in zip((np.sin(angle), np.cos(angle)), waves, strict=True)
        )
        return down, right


def _moved(clean: RGBFloat, place: Place, *, shift_y: Offsets, shift_x: Offsets) -> np.ndarray:
    """Returns the window, every pixel taken from where the displacement says it came from."""
    y = np.arange(place.rows.start, place.rows.stop, dtype=np.float32)[:, None] - shift_y
    x = np.arange(place.columns.start, place.columns.stop, dtype=np.float32)[None, :] - shift_x
    channels = [map_coordinates(clean[..., c], [y, x], order=3, mode="mirror") for c in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


WARP = Warp(area_fraction=(0.05, 0.12), push=(0.35, 0.6), shading=(10.0, 30.0))
