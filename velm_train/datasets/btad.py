"""Reads BTAD, three industrial products without defect types: `{train/ok, test/{ok,ko}}` in, `FoundImage`s out."""

from collections.abc import Sequence
from pathlib import Path

from velm_train.core.errors import DataError
from velm_train.core.records import Split
from velm_train.datasets.found import Found, FoundImage
from velm_train.datasets.known_sets import known_categories, notes_on_masks
from velm_train.datasets.mvtec_style import find_type, refuse_orphan_masks, with_groups
from velm_train.datasets.reading import list_folders

BTAD = "BTAD"

BTAD_CATEGORIES = ("01", "02", "03")
"""Mishra et al., ISIE 2021."""

BTAD_DEFECT = "defect"
"""The only type: BTAD says that a part is faulty, not how."""

_FOLDERS: dict[Split, dict[str, tuple[str, ...]]] = {"train": {"ok": ()}, "test": {"ok": (), "ko": (BTAD_DEFECT,)}}
"""Split -> folder -> defect types."""


def find_btad(root: Path, *, categories: Sequence[str]) -> Found:
    """Finds the images of BTAD; masks are `ground_truth/ko/<stem>`, a mask's suffix may differ from its image's.

    Args:
        root: folder that holds `01`, `02` and `03`.
        categories: categories to read; empty for all that are there.

    Raises:
        DataError: if the root is not BTAD, or a folder or mask is not as it has to be.
    """
    chosen, notes = known_categories(root, categories, dataset=BTAD, known=BTAD_CATEGORIES, inside=("train", "test"))
    images = [image for category in chosen for image in _category_images(root / category)]
    return Found(images=tuple(with_groups(root, images)), notes=(*notes, *notes_on_masks(images)))


def _category_images(folder: Path) -> list[FoundImage]:
    found: list[FoundImage] = []
    for split, types in _FOLDERS.items():
        others = [entry.name for entry in list_folders(folder / split) if entry.name not in types]
        if others:
            raise DataError(f"{folder / split} holds {', '.join(others)}; BTAD has {' and '.join(types)} there")
        for name, defect_types in types.items():
            found += find_type(
                folder / split / name,
                category_folder=folder,
                split=split,
                defect_types=defect_types,
                mask_folder=folder / "ground_truth" / name if split == "test" else None,
            )
    refuse_orphan_masks(folder, folder / "ground_truth")
    return found
