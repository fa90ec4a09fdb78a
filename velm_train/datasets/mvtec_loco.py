"""Reads MVTec LOCO: `<category>/{train/good, validation/good, test/<kind>, ground_truth/<kind>/<stem>}`; images out.

Source of the layout: Bergmann et al., "Beyond Dents and Scratches", IJCV 130, 2022, and the data set's readme.
"""

from collections.abc import Sequence
from pathlib import Path

from velm_train.core.errors import DataError
from velm_train.core.records import NORMAL_DEFECT_TYPE
from velm_train.datasets.category_folders import choose_category_folders
from velm_train.datasets.fine_types import DEFECTS_CONFIG, with_fine_types
from velm_train.datasets.found import Found, FoundImage
from velm_train.datasets.mvtec_style import find_category, find_type, with_groups
from velm_train.datasets.reading import list_folders

VALIDATION_FOLDER = "validation"


def find_mvtec_loco(root: Path, *, categories: Sequence[str]) -> Found:
    """Finds every image of the chosen categories.

    The types of a defect are the names that `<category>/defects_config.json` gives to the pixel values of its masks,
    several joined; this opens every mask. Without that file the type is the kind: `logical_anomalies` or
    `structural_anomalies`. The kind stays in the image_id.

    The normals of `validation/good` get split "train", for a record knows only train and test: a protocol may then
    calibrate on them as on any other normal that is not for testing. `groups.csv` is read as for `find_mvtec_style`.

    Args:
        root: folder that holds one folder a category.
        categories: categories to read; empty for all.

    Raises:
        DataError: if the root, a category, a mask or the table of types is not as it has to be.
    """
    chosen = choose_category_folders(root, categories, is_category=_is_category, expected="train and test")
    images: list[FoundImage] = []
    notes = list(chosen.notes)
    for folder in chosen.folders:
        validation = _validation_images(folder)
        if validation:
            notes.append(f"{folder.name}: {len(validation)} normals of {VALIDATION_FOLDER} are read as train")
        config = folder / DEFECTS_CONFIG
        found = [*find_category(folder), *validation]
        if config.is_file():
            typed = with_fine_types(found, config)
            images += typed.images
            notes += typed.notes
        else:
            images += found
            notes.append(f"{folder.name}: no {DEFECTS_CONFIG}; the types are the names of the folders")
    return Found(images=tuple(with_groups(root, images)), notes=tuple(notes))


def _is_category(folder: Path) -> bool:
    return (folder / "train").is_dir() and (folder / "test").is_dir()


def _validation_images(folder: Path) -> list[FoundImage]:
    validation = folder / VALIDATION_FOLDER
    others = [entry.name for entry in list_folders(validation) if entry.name != NORMAL_DEFECT_TYPE]
    if others:
        raise DataError(
            f"category {folder.name!r}: {validation} holds {', '.join(others)} beside good; move it to test"
        )
    good = validation / NORMAL_DEFECT_TYPE
    if not good.is_dir():
        return []
    return find_type(good, category_folder=folder, split="train", defect_types=(), mask_folder=None)
