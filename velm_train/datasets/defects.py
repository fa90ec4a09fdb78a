"""Synthetic defects with exact masks: a clean picture and a type in, the defect picture and its mask out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from velm_train.core.shapes import BoolMap
from velm_train.datasets.defect_areas import paint_bent, paint_color, paint_glue, paint_hole, paint_stain
from velm_train.datasets.defect_lines import paint_crack, paint_scratch, paint_thread
from velm_train.datasets.defect_shapes import RGBFloat
from velm_train.datasets.defect_surface import Painted, Surface, read_surface

MIN_AREA_FRACTION = 0.003
MAX_AREA_FRACTION = 0.06
"""Share of the image that a defect may cover."""

MIN_COVERAGE = 0.12
"""A pixel belongs to the defect from this coverage on; below it the clean pixel is kept."""

_MAX_DRAWS = 40

Painter = Callable[[RGBFloat, Surface, np.random.Generator], Painted]

DEFECT_PAINTERS: Mapping[str, Painter] = MappingProxyType(
    {
        "bent": paint_bent,
        "color": paint_color,
        "crack": paint_crack,
        "glue": paint_glue,
        "hole": paint_hole,
        "scratch": paint_scratch,
        "stain": paint_stain,
        "thread": paint_thread,
    }
)
"""Defect type (its folder name) -> what paints it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DefectImage:
    """A picture with one defect; outside `gt_mask` it equals the clean picture exactly."""

    image: RGBFloat
    gt_mask: BoolMap


def add_defect(clean: RGBFloat, *, defect_type: str, rng: np.random.Generator) -> DefectImage:
    """Lays one defect of random place, size, orientation and severity on a clean picture.

    Draws again until the mask covers MIN_AREA_FRACTION to MAX_AREA_FRACTION of the image.

    Args:
        clean: picture without sensor noise, 0..255.
        defect_type: a key of DEFECT_PAINTERS.
        rng: the only source of randomness.
    """
    surface = read_surface(clean)
    paint = DEFECT_PAINTERS[defect_type]
    for _ in range(_MAX_DRAWS):
        painted = paint(clean, surface, rng)
        gt_mask = painted.coverage >= MIN_COVERAGE
        if MIN_AREA_FRACTION <= float(gt_mask.mean()) <= MAX_AREA_FRACTION:
            return DefectImage(image=np.where(gt_mask[..., None], painted.image, clean), gt_mask=gt_mask)
    raise AssertionError(f"{defect_type}: no draw of {_MAX_DRAWS} has a permitted size on {clean.shape[:2]}")
