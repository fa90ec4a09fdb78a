"""Reads MVTec-AC, MVTec AD with refined labels: 14 categories in MVTec's folder layout in, `FoundImage`s out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from velm_train.core.errors import DataError
from velm_train.datasets.found import Found
from velm_train.datasets.known_sets import known_categories, notes_on_masks, require_known_types
from velm_train.datasets.mvtec_ad import MVTEC_AD_TYPES
from velm_train.datasets.mvtec_style import find_category, with_groups

MVTEC_AC = "MVTec-AC"

MVTEC_AC_MERGED: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "capsule": {"poke": "crack"},
        "carpet": {"hole": "cut"},
        "screw": {"thread_side": "scratch_thread", "thread_top": "scratch_thread"},
        "zipper": {"rough": "broken_teeth"},
    }
)
"""Category -> type of MVTec AD -> the type of MVTec-AC that holds its images."""

_DROPPED_CATEGORY = "toothbrush"
_DROPPED_TYPE = "combined"


def _refined(category: str) -> tuple[str, ...]:
    merged = MVTEC_AC_MERGED.get(category, {})
    return tuple(sorted({merged.get(name, name) for name in MVTEC_AD_TYPES[category]} - {_DROPPED_TYPE}))


MVTEC_AC_TYPES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {category: _refined(category) for category in MVTEC_AD_TYPES if category != _DROPPED_CATEGORY}
)
"""Category -> defect types, 64 in all (VELM, arXiv 2505.02626, section on MVTec-AC)."""


def find_mvtec_ac(root: Path, *, categories: Sequence[str]) -> Found:
    """Finds the images of MVTec-AC as its authors arranged them: the type is the folder.

    MVTec-AC moves, removes and renumbers images of MVTec AD in seven categories and publishes no list of them, so it
    cannot be made from a copy of MVTec AD.

    Args:
        root: folder that holds `bottle`, `cable` and so on.
        categories: categories to read; empty for all that are there.

    Raises:
        DataError: if the root is a copy of MVTec AD or something else, or a category or type is not as it has to be.
    """
    _refuse_mvtec_ad(root)
    chosen, notes = known_categories(root, categories, dataset=MVTEC_AC, known=MVTEC_AC_TYPES, inside=("train", "test"))
    images = [image for category in chosen for image in find_category(root / category)]
    require_known_types(images, MVTEC_AC_TYPES, dataset=MVTEC_AC, hint="rename the folder as MVTec-AC has it")
    return Found(images=tuple(with_groups(root, images)), notes=(*notes, *notes_on_masks(images)))


def _refuse_mvtec_ad(root: Path) -> None:
    """Refuses a root that holds what MVTec-AC dropped or merged."""
    signs = [root / _DROPPED_CATEGORY]
    for category, types in MVTEC_AD_TYPES.items():
        gone = set(types) - set(MVTEC_AC_TYPES.get(category, types))
        signs += [root / category / "test" / name for name in sorted(gone)]
    seen = [sign.relative_to(root).as_posix() for sign in signs if sign.is_dir()]
    if seen:
        raise DataError(
            f"{root} is MVTec AD, not MVTec-AC: it holds {', '.join(seen)}; only 7 of the 14 categories of MVTec-AC "
            "follow from MVTec AD, the others were moved and renumbered; give the copy arranged by MVTec-AC's "
            "authors, or use dataset=mvtec_ad"
        )
