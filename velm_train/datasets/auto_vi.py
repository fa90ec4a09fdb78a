"""Reads AutoVI: `<category>/{train/good, test/<type>, ground_truth/<type>/<stem>/0000.png}` in, `FoundImage`s out.

Source of the layout: Carvalho et al., "The Automotive Visual Inspection Dataset", 2024, doi 10.5281/zenodo.10459003.
"""

from collections.abc import Sequence
from pathlib import Path

from velm_train.datasets.category_folders import choose_category_folders
from velm_train.datasets.fine_types import DEFECTS_CONFIG, with_fine_types
from velm_train.datasets.found import Found, FoundImage
from velm_train.datasets.mvtec_style import find_category, with_groups


def find_auto_vi(root: Path, *, categories: Sequence[str]) -> Found:
    """Finds every image of the chosen categories.

    The folder below `test` is the type. Where it is not one of the names in `<category>/defects_config.json` (images
    that show several defects), the pixel values of the masks tell the types, as in MVTec LOCO. `groups.csv` is read as
    for `find_mvtec_style`.

    Args:
        root: folder that holds one folder a category; each of the six archives unpacks to one.
        categories: categories to read; empty for all.

    Raises:
        DataError: if the root, a category, a mask or the table of types is not as it has to be.
    """
    chosen = choose_category_folders(root, categories, is_category=_is_category, expected="train and test")
    images: list[FoundImage] = []
    notes = list(chosen.notes)
    for folder in chosen.folders:
        found = Found(images=tuple(find_category(folder)), notes=())
        config = folder / DEFECTS_CONFIG
        if config.is_file():
            found = with_fine_types(found.images, config)
        images += found.images
        notes += found.notes
    return Found(images=tuple(with_groups(root, images)), notes=tuple(notes))


def _is_category(folder: Path) -> bool:
    return (folder / "train").is_dir() and (folder / "test").is_dir()
