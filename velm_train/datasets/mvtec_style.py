"""Reads MVTec-style folders: `<category>/{train/good, test/<type>, ground_truth/<type>}` in, `FoundImage`s out."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from velm_train.core.errors import DataError
from velm_train.core.records import NORMAL_DEFECT_TYPE, Split
from velm_train.datasets.found import Found, FoundImage, types_of_folder
from velm_train.datasets.reading import (
    GROUPS_FILE,
    IMAGE_SUFFIXES,
    choose_categories,
    list_folders,
    list_images,
    read_groups,
    require_root,
)

MASK_FOLDERS = ("ground_truth", "groundtruth")
"""Names of the folder of masks; the second is VisA-AC's."""

_SPLITS: tuple[Split, Split] = ("train", "test")


def find_mvtec_style(root: Path, *, categories: Sequence[str]) -> Found:
    """Finds every image of the chosen categories.

    Masks are `ground_truth/<type>/<stem>_mask.<suffix>`, `<stem>.<suffix>` or all pictures in a folder
    `<stem>/`; `groundtruth` is read as well. A defect image without a mask is allowed. `groups.csv` at the root, if
    there, gives the group of every image.

    Args:
        root: folder that holds one folder a category.
        categories: categories to read; empty for all.

    Raises:
        DataError: if the root, a category, a mask or the table of groups is not as it has to be.
    """
    require_root(root)
    if (root / "train").is_dir() and (root / "test").is_dir():
        raise DataError(f"data root {root} is itself a category (it holds train and test); give its parent folder")
    folders = list_folders(root)
    present = [folder.name for folder in folders if any((folder / split).is_dir() for split in _SPLITS)]
    skipped = [folder.name for folder in folders if folder.name not in present]
    if not present:
        raise DataError(f"data root {root} holds no category: none of its folders has a train or test folder")
    notes = (f"folders without train or test are not categories: {', '.join(skipped)}",) if skipped else ()
    chosen = choose_categories(present, categories, root=root)
    images = [image for category in chosen for image in find_category(root / category)]
    groups = _groups_of(root, images)
    if groups is not None:
        names = {image.path: image.path.relative_to(root).as_posix() for image in images}
        images = [dataclasses.replace(image, group_id=groups[names[image.path]]) for image in images]
    return Found(images=tuple(images), notes=notes)


def find_category(folder: Path) -> list[FoundImage]:
    """Finds the images of one category folder.

    Raises:
        DataError: if there are no normal training images, defects among them, or a mask without an image.
    """
    train_good = folder / "train" / NORMAL_DEFECT_TYPE
    if not list_images(train_good):
        allowed = ", ".join(sorted(IMAGE_SUFFIXES))
        raise DataError(
            f"category {folder.name!r}: no images in {train_good}; normal images ({allowed}) are needed there"
        )
    others = [entry.name for entry in list_folders(folder / "train") if entry.name != NORMAL_DEFECT_TYPE]
    if others:
        raise DataError(
            f"category {folder.name!r}: {folder / 'train'} holds {', '.join(others)} beside good; move defects to test"
        )
    mask_root = _mask_root(folder)
    found: list[FoundImage] = []
    for split in _SPLITS:
        for type_folder in list_folders(folder / split):
            images = list_images(type_folder)
            masks = pair_masks(images, mask_root / type_folder.name) if split == "test" else {}
            found += [
                FoundImage(
                    path=path,
                    category=folder.name,
                    relative_path=path.relative_to(folder).as_posix(),
                    split=split,
                    defect_types=types_of_folder(type_folder.name),
                    gt_mask_paths=masks.get(path, ()),
                    group_id=None,
                    where="",
                )
                for path in images
            ]
    _refuse_orphan_mask_folders(folder, mask_root)
    return found


def _mask_root(folder: Path) -> Path:
    present = [folder / name for name in MASK_FOLDERS if (folder / name).is_dir()]
    if len(present) > 1:
        raise DataError(f"category {folder.name!r} holds both {' and '.join(MASK_FOLDERS)}; keep one of them")
    return present[0] if present else folder / MASK_FOLDERS[0]


def pair_masks(images: Sequence[Path], mask_folder: Path) -> dict[Path, tuple[Path, ...]]:
    """Returns image -> masks; every mask must belong to an image of this folder.

    Raises:
        DataError: naming a mask, or a folder of masks, that belongs to no image.
    """
    masks = {path.stem: (path,) for path in list_images(mask_folder)}
    masks |= {entry.name: tuple(list_images(entry)) for entry in list_folders(mask_folder)}
    pairs: dict[Path, tuple[Path, ...]] = {}
    used: set[str] = set()
    for image in images:
        stems = [stem for stem in (f"{image.stem}_mask", image.stem) if stem in masks]
        used.update(stems)
        if stems:
            pairs[image] = masks[stems[0]]  # `<stem>_mask` is the usual name and goes first
    strays = sorted(set(masks) - used)
    if strays:
        raise DataError(
            f"mask {mask_folder / strays[0]} (one of {len(strays)}) has no image; "
            f"a mask is named as its image, or as its image and `_mask`"
        )
    return pairs


def _refuse_orphan_mask_folders(category_folder: Path, mask_root: Path) -> None:
    for mask_folder in list_folders(mask_root):
        images_folder = category_folder / "test" / mask_folder.name
        if list_images(mask_folder) and not images_folder.is_dir():
            raise DataError(f"masks in {mask_folder} have no images: {images_folder} does not exist")


def _groups_of(root: Path, found: list[FoundImage]) -> dict[str, str] | None:
    """Returns the table of groups after checking that it covers exactly the images of the categories read."""
    groups = read_groups(root)
    if groups is None:
        return None
    on_disk = {image.path.relative_to(root).as_posix() for image in found}
    read = {image.category for image in found}
    listed = {path for path in groups if path.split("/")[0] in read}
    for path in sorted(on_disk ^ listed):
        problem = "is not listed" if path in on_disk else "is listed but not on disk"
        raise DataError(f"{root / GROUPS_FILE}: image {path} {problem}; every image needs exactly one row")
    return groups
