"""The eight painted defects of the textures set as operators, on parts as well as on surfaces."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from velm_train.core.shapes import BoolMap
from velm_train.datasets.defect_shapes import RGBFloat, luminance
from velm_train.datasets.defect_surface import Painted, Surface, read_surface
from velm_train.datasets.defects import Painter
from velm_train.datasets.synthesis.noise import add_grain
from velm_train.datasets.synthesis.protocol import Donor


@dataclass(frozen=True, kw_only=True, slots=True)
class PaintedDefect:
    """One painter of `defects.DEFECT_PAINTERS`, kept to the foreground and given the camera's grain.

    The painter itself is that of the textures set. Its pictures get their grain when they are exposed; here the clean
    picture is a finished photograph, on which paint without grain would look drawn.
    """

    painter: Painter

    def __call__(
        self, clean: RGBFloat, *, donors: Sequence[Donor], foreground: BoolMap, rng: np.random.Generator
    ) -> Painted:
        """Paints one defect; donors are not used."""
        del donors
        painted = self.painter(clean, _surface_of(clean, foreground), rng)
        image = add_grain(painted.image, clean=clean, coverage=painted.coverage, rng=rng).clip(0.0, 255.0)
        if foreground.all():
            return Painted(image=image, coverage=painted.coverage)
        within = gaussian_filter(foreground.astype(np.float32), 0.7) * foreground
        return Painted(image=clean + within[..., None] * (image - clean), coverage=painted.coverage * foreground)


def _surface_of(clean: RGBFloat, foreground: BoolMap) -> Surface:
    """Measures the part alone."""
    if foreground.all():
        return read_surface(clean)
    pixels = clean[foreground]
    luma = luminance(pixels[None])
    return Surface(
        mean_colour=pixels.mean(axis=0, dtype=np.float64),
        mean_luminance=float(luma.mean()),
        contrast=float(luma.std()),
    )
