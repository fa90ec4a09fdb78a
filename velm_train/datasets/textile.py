"""Reads the published textile set: `images/{nominal,local,global}/*.jpg` in, `FoundImage`s of one category out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from velm_train.core.errors import DataError
from velm_train.core.records import NORMAL_DEFECT_TYPE
from velm_train.datasets.found import Found, FoundImage, types_of_folder
from velm_train.datasets.generic import split_of
from velm_train.datasets.reading import choose_categories, list_images

TEXTILE = "textile"
"""Name of the data set and of its only category."""

TEXTILE_FOLDERS: Mapping[str, str] = MappingProxyType(
    {"nominal": NORMAL_DEFECT_TYPE, "local": "local", "global": "global"}
)
"""Folder -> defect type."""


def find_textile(root: Path, *, categories: Sequence[str]) -> Found:
    """Finds the set's images, which were simulated and have labels but no masks and no split.

    Args:
        root: folder that holds `images/nominal`, `images/local` and `images/global`.
        categories: empty, or the set's only one.

    Raises:
        DataError: if one of the folders holds no images.
    """
    choose_categories([TEXTILE], categories, root=root)
    images: list[FoundImage] = []
    for folder, defect_type in TEXTILE_FOLDERS.items():
        paths = list_images(root / "images" / folder)
        if not paths:
            raise DataError(f"textile set: no images in {root / 'images' / folder}; fetch the textile_images asset")
        images += [
            FoundImage(
                path=path,
                category=TEXTILE,
                relative_path=f"{folder}/{path.name}",
                split=split_of(defect_type),
                defect_types=types_of_folder(defect_type),
                gt_mask_paths=(),
                group_id=None,
                where="",
            )
            for path in paths
        ]
    return Found(images=tuple(images), notes=())
