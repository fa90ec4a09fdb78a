"""Reads MPDD, painted and plain metal parts: 6 categories in MVTec's folder layout in, `FoundImage`s out."""

from collections.abc import Sequence
from pathlib import Path

from velm_train.datasets.found import Found
from velm_train.datasets.known_sets import known_categories, notes_on_masks
from velm_train.datasets.mvtec_style import find_category, with_groups

MPDD = "MPDD"

MPDD_CATEGORIES = ("bracket_black", "bracket_brown", "bracket_white", "connector", "metal_plate", "tubes")
"""Jezek et al., ICUMT 2021."""


def find_mpdd(root: Path, *, categories: Sequence[str]) -> Found:
    """Finds the images of MPDD; masks are `ground_truth/<type>/<stem>_mask.png`.

    Args:
        root: folder that holds `bracket_black`, `bracket_brown` and so on.
        categories: categories to read; empty for all that are there.

    Raises:
        DataError: if the root is not MPDD, or a category or mask is not as it has to be.
    """
    chosen, notes = known_categories(root, categories, dataset=MPDD, known=MPDD_CATEGORIES, inside=("train", "test"))
    images = [image for category in chosen for image in find_category(root / category)]
    return Found(images=tuple(with_groups(root, images)), notes=(*notes, *notes_on_masks(images)))
