"""A piece of the part is missing: a clean picture in, the picture with the gap out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter

from velm_train.core.shapes import BoolMap
from velm_train.datasets.defect_shapes import Coverage, RGBFloat, smooth_step
from velm_train.datasets.defect_surface import Painted
from velm_train.datasets.synthesis.noise import add_grain
from velm_train.datasets.synthesis.places import lay_over, pick_point, place_at, radius_of, rough_disc
from velm_train.datasets.synthesis.poisson import MAX_RADIUS_PX, solve_poisson
from velm_train.datasets.synthesis.protocol import Donor

_EDGE_FRACTION = 1 / 128
"""Share of the longer side over which part and background may mix: the camera blurs, and the foreground is coarse."""

_RIM_SHARE = 0.09
"""Width of the face of fracture, in radii of the gap."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MissingPart:
    """A piece broken off the part's edge, or worn off its surface where the part fills the picture.

    The gap is the smoothest continuation of what lies around it (the Laplace equation) with the camera's grain: of the
    background alone where there is one, so that the part looks cut, and of everything around it otherwise.

    Attributes:
        area_fraction: low and high share of the foreground, of the whole shape before the foreground cuts it.
    """

    area_fraction: tuple[float, float]

    def __call__(
        self, clean: RGBFloat, *, donors: Sequence[Donor], foreground: BoolMap, rng: np.random.Generator
    ) -> Painted:
        """Removes one piece; donors are not used."""
        del donors
        size_hw = (clean.shape[0], clean.shape[1])
        radius = min(radius_of(foreground, area_fraction=rng.uniform(*self.area_fraction)), MAX_RADIUS_PX)
        edge = foreground & ~binary_erosion(foreground, border_value=1)
        has_edge = bool(edge.any())
        place = place_at(
            pick_point(edge if has_edge else foreground, rng), reach_px=2.2 * radius + 4.0, size_hw=size_hw
        )
        edge_px = max(2, round(_EDGE_FRACTION * max(size_hw)))
        under, part = clean[place.window], binary_dilation(foreground[place.window], iterations=edge_px)
        gap = (rough_disc(place, rng, radius_px=radius, roughness=0.45) > 0.5) & part
        inside = binary_dilation(gap, iterations=2)  # so that the gap's soft edge mixes with background too
        known = ~inside & ~part if has_edge else binary_dilation(inside) & ~inside
        filled = solve_poisson(under, inside=inside, known=known, guides=[])
        step = rng.choice([-1.0, 1.0]) * rng.uniform(20.0, 55.0)
        softened = gaussian_filter(gap.astype(np.float32), 0.8)
        rim = np.zeros_like(softened)
        if has_edge:
            rim = _rim(gap, foreground[place.window], width_px=max(1, round(_RIM_SHARE * radius)))
            under = under + rim[..., None] * np.float32(step)
        else:
            filled = filled + np.float32(0.6 * step)  # what lies below the worn surface has a tone of its own
        mixed = under + softened[..., None] * (filled - under)
        mixed = add_grain(mixed, clean=clean[place.window], coverage=softened, rng=rng)
        return lay_over(clean, mixed, smooth_step(8 * np.maximum(softened, rim)), place=place)


def _rim(gap: BoolMap, part: BoolMap, *, width_px: int) -> Coverage:
    """Returns the face of fracture: the part's surface along the gap."""
    band = binary_dilation(gap, iterations=width_px) & part & ~gap
    soft: Coverage = gaussian_filter(band.astype(np.float32), 0.6) * (part & ~gap)
    return soft


MISSING_PART = MissingPart(area_fraction=(0.015, 0.07))
