"""Defects made of pixels from elsewhere, pasted or blended in: a clean picture in, the painted one out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation

from velm_train.core.shapes import BoolMap
from velm_train.datasets.defect_shapes import Coverage, RGBFloat, unit_px
from velm_train.datasets.defect_surface import Painted
from velm_train.datasets.synthesis.places import (
    Place,
    Point,
    deep_inside,
    fetch,
    lay_over,
    pick_point,
    place_at,
    radius_of,
    rotation,
    rough_disc,
)
from velm_train.datasets.synthesis.poisson import MAX_RADIUS_PX, solve_poisson
from velm_train.datasets.synthesis.protocol import Donor

_TRIES = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class CutPaste:
    """A rectangle cut from one place of the part and pasted at another (Li et al. 2021, "CutPaste", section 2).

    Deviations: sizes are relative to the part, not to the picture; the patch has a soft edge of one pixel; and it comes
    from a place some way off, inside the part.

    Attributes:
        width_units: low and high of the short side, in pixels of a picture of 256 x 320.
        length_units: low and high of the long side, the same unit.
        max_turn_rad: the rectangle stands up to this far off the picture's axes, either way.
        jitter: low and high relative change of brightness, either way; a sixth of it is drawn for each channel apart.
    """

    width_units: tuple[float, float]
    length_units: tuple[float, float]
    max_turn_rad: float
    jitter: tuple[float, float]

    def __call__(
        self, clean: RGBFloat, *, donors: Sequence[Donor], foreground: BoolMap, rng: np.random.Generator
    ) -> Painted:
        """Pastes one rectangle; donors are not used."""
        del donors
        size_hw = (clean.shape[0], clean.shape[1])
        unit = unit_px(size_hw)
        sides = np.array([rng.uniform(*self.width_units), rng.uniform(*self.length_units)]) * unit
        half_v, half_u = (rng.permutation(sides) / 2.0).tolist()
        turn = rng.uniform(-self.max_turn_rad, self.max_turn_rad)
        target = pick_point(foreground, rng)
        place = place_at(target, reach_px=float(np.hypot(half_u, half_v)) + 2.0, size_hw=size_hw)
        coverage = _turned_rectangle(place, half_u=half_u, half_v=half_v, turn_rad=turn)
        coverage *= foreground[place.window]
        source = _far_point(
            deep_inside(foreground, depth_px=max(half_u, half_v)), target, rng, distance_px=half_u + half_v
        )
        pixels = fetch(clean, place, centre=source, matrix=rotation(turn, scale=1.0))
        jitter = rng.choice([-1.0, 1.0]) * rng.uniform(*self.jitter)
        gains = 1.0 + jitter * (1.0 + rng.uniform(-1.0, 1.0, size=3) / 6.0)
        return lay_over(clean, pixels * gains.astype(np.float32), coverage, place=place)


def _turned_rectangle(place: Place, *, half_u: float, half_v: float, turn_rad: float) -> Coverage:
    """Returns an antialiased rectangle around the place's point."""
    cos, sin = np.float32(np.cos(turn_rad)), np.float32(np.sin(turn_rad))
    along, across = place.dx * cos + place.dy * sin, place.dy * cos - place.dx * sin
    inside_u = (np.float32(half_u + 0.5) - np.abs(along)).clip(0.0, 1.0)
    inside_v = (np.float32(half_v + 0.5) - np.abs(across)).clip(0.0, 1.0)
    rectangle: Coverage = inside_u * inside_v
    return rectangle


def _far_point(where: BoolMap, target: Point, rng: np.random.Generator, *, distance_px: float) -> Point:
    """Returns one of the pixels at a distance from the target, or the farthest of a few draws."""
    draws = [pick_point(where, rng) for _ in range(_TRIES)]
    distances = [float(np.hypot(y - target[0], x - target[1])) for y, x in draws]
    far = [draw for draw, distance in zip(draws, distances, strict=True) if distance >= distance_px]
    return far[0] if far else draws[int(np.argmax(distances))]


CUT_PASTE = CutPaste(width_units=(22.0, 50.0), length_units=(40.0, 90.0), max_turn_rad=0.0, jitter=(0.03, 0.15))
SCAR = CutPaste(width_units=(3.5, 9.0), length_units=(35.0, 110.0), max_turn_rad=np.pi / 4, jitter=(0.15, 0.4))
"""The paper's scar is 2 to 16 by 10 to 25 pixels of 256 x 256; longer ones are easier to find and to name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PoissonBlend:
    """A piece of another good part, moved, turned and rescaled, blended in without a seam.

    Schlueter et al. 2022, "Natural synthetic anomalies", section 3: patches of other normal images under Perez et al.
    2003, "Poisson image editing", section 3. Deviations: the outline is rough instead of a rectangle, and the piece's
    gradients may be strengthened so that it shows on calm surfaces.

    Attributes:
        area_fraction: low and high share of the foreground.
        scale: low and high enlargement.
        gain: low and high factor of the piece's contrast.
    """

    area_fraction: tuple[float, float]
    scale: tuple[float, float]
    gain: tuple[float, float]

    def __call__(
        self, clean: RGBFloat, *, donors: Sequence[Donor], foreground: BoolMap, rng: np.random.Generator
    ) -> Painted:
        """Blends one piece of a random donor, or of the picture itself without one."""
        size_hw = (clean.shape[0], clean.shape[1])
        radius = min(radius_of(foreground, area_fraction=rng.uniform(*self.area_fraction)), MAX_RADIUS_PX)
        place = place_at(pick_point(foreground, rng), reach_px=2.2 * radius + 3.0, size_hw=size_hw)
        region = rough_disc(place, rng, radius_px=radius, roughness=0.5) > 0.5
        region &= foreground[place.window]
        source: Donor = donors[int(rng.integers(len(donors)))] if donors else clean
        where = foreground if source.shape == clean.shape else np.ones(source.shape[:2], dtype=np.bool_)
        centre = pick_point(deep_inside(where, depth_px=1.2 * radius), rng)
        turned = rotation(rng.uniform(0.0, 2 * np.pi), scale=1.0 / rng.uniform(*self.scale))
        pixels = fetch(source, place, centre=centre, matrix=turned)
        pixels = pixels.mean(axis=(0, 1)) + (pixels - pixels.mean(axis=(0, 1))) * np.float32(rng.uniform(*self.gain))
        under = clean[place.window]
        guides = [pixels, under] if rng.random() < 0.5 else [pixels]
        known = binary_dilation(region) & ~region
        filled = solve_poisson(under, inside=region, known=known, guides=guides)
        return lay_over(clean, filled, region.astype(np.float32), place=place)


POISSON_BLEND = PoissonBlend(area_fraction=(0.018, 0.06), scale=(0.6, 1.8), gain=(1.1, 2.2))
