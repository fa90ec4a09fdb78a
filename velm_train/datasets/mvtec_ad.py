"""Reads MVTec AD as downloaded: 15 categories in MVTec's folder layout in, `FoundImage`s out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from velm_train.datasets.found import Found
from velm_train.datasets.known_sets import known_categories, require_known_types, require_masks
from velm_train.datasets.mvtec_style import find_category, with_groups

MVTEC_AD = "MVTec AD"

MVTEC_AD_TYPES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "bottle": ("broken_large", "broken_small", "contamination"),
        "cable": (
            "bent_wire",
            "cable_swap",
            "combined",
            "cut_inner_insulation",
            "cut_outer_insulation",
            "missing_cable",
            "missing_wire",
            "poke_insulation",
        ),
        "capsule": ("crack", "faulty_imprint", "poke", "scratch", "squeeze"),
        "carpet": ("color", "cut", "hole", "metal_contamination", "thread"),
        "grid": ("bent", "broken", "glue", "metal_contamination", "thread"),
        "hazelnut": ("crack", "cut", "hole", "print"),
        "leather": ("color", "cut", "fold", "glue", "poke"),
        "metal_nut": ("bent", "color", "flip", "scratch"),
        "pill": ("color", "combined", "contamination", "crack", "faulty_imprint", "pill_type", "scratch"),
        "screw": ("manipulated_front", "scratch_head", "scratch_neck", "thread_side", "thread_top"),
        "tile": ("crack", "glue_strip", "gray_stroke", "oil", "rough"),
        "toothbrush": ("defective",),
        "transistor": ("bent_lead", "cut_lead", "damaged_case", "misplaced"),
        "wood": ("color", "combined", "hole", "liquid", "scratch"),
        "zipper": (
            "broken_teeth",
            "combined",
            "fabric_border",
            "fabric_interior",
            "rough",
            "split_teeth",
            "squeezed_teeth",
        ),
    }
)
"""Category -> defect types, 73 in all (Bergmann et al., CVPR 2019)."""


def find_mvtec_ad(root: Path, *, categories: Sequence[str]) -> Found:
    """Finds the images of MVTec AD; every defect image has a mask `ground_truth/<type>/<stem>_mask.png`.

    Args:
        root: folder that holds `bottle`, `cable` and so on.
        categories: categories to read; empty for all that are there.

    Raises:
        DataError: if the root is not MVTec AD, or a category, type or mask is not as the download has it.
    """
    chosen, notes = known_categories(root, categories, dataset=MVTEC_AD, known=MVTEC_AD_TYPES, inside=("train", "test"))
    images = [image for category in chosen for image in find_category(root / category)]
    hint = "rename the folder, or use dataset=mvtec_ac if this is MVTec-AC"
    require_known_types(images, MVTEC_AD_TYPES, dataset=MVTEC_AD, hint=hint)
    require_masks(images, dataset=MVTEC_AD)
    return Found(images=tuple(with_groups(root, images)), notes=notes)
