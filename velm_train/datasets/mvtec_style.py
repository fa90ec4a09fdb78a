"""Reads MVTec-style folders: `<category>/{train/good, test/<type>, ground_truth/<type>}` in, `FoundImage`s out."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
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
    printable,
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
    return Found(images=tuple(with_groups(root, images)), notes=notes)


def find_category(folder: Path, *, needs_train: bool = True) -> list[FoundImage]:
    """Finds the images of one category folder.

    Args:
        folder: holds `train/good`, `test` and perhaps masks.
        needs_train: False allows a copy that has test images alone.

    Raises:
        DataError: if there are no normal training images, defects among them, a folder without images, or a mask
            without an image.
    """
    train_good = folder / "train" / NORMAL_DEFECT_TYPE
    if needs_train and not list_images(train_good):
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
            found += find_type(
                type_folder,
                category_folder=folder,
                split=split,
                defect_types=types_of_folder(type_folder.name),
                mask_folder=mask_root / type_folder.name if split == "test" else None,
            )
    refuse_orphan_masks(folder, mask_root)
    return found


def find_type(
    type_folder: Path,
    *,
    category_folder: Path,
    split: Split,
    defect_types: tuple[str, ...],
    mask_folder: Path | None,
) -> list[FoundImage]:
    """Finds the images of one folder that shows one type, with their masks.

    Raises:
        DataError: if there are no images, or a mask has none.
    """
    images = list_images(type_folder)
    if not images:
        raise DataError(f"{type_folder} holds no images; put some there or remove the folder")
    masks = pair_masks(images, mask_folder) if mask_folder is not None else {}
    return [
        FoundImage(
            path=path,
            category=category_folder.name,
            relative_path=path.relative_to(category_folder).as_posix(),
            split=split,
            defect_types=defect_types,
            gt_mask_paths=masks.get(path, ()),
            group_id=None,
            where="",
        )
        for path in images
    ]


def _mask_root(folder: Path) -> Path:
    present = [folder / name for name in MASK_FOLDERS if (folder / name).is_dir()]
    if len(present) > 1:
        raise DataError(f"category {folder.name!r} holds both {' and '.join(MASK_FOLDERS)}; keep one of them")
    return present[0] if present else folder / MASK_FOLDERS[0]


def pair_masks(images: Sequence[Path], mask_folder: Path) -> dict[Path, tuple[Path, ...]]:
    """Returns image -> masks: `<stem>_mask.<suffix>`, `<stem>.<suffix>`, or all pictures in a folder `<stem>/`.

    Raises:
        DataError: naming a mask, or a folder of masks, that belongs to no image or to two, or an image with two masks.
    """
    masks = _masks_by_stem(mask_folder)
    owners: dict[str, Path] = {}
    for image in images:
        stems = [stem for stem in (f"{image.stem}_mask", image.stem) if stem in masks]
        if len(stems) > 1:
            both = " and ".join(printable(masks[stem].place) for stem in stems)
            raise DataError(f"image {printable(image)} has two masks, {both}; keep one of them")
        for stem in stems:
            other = owners.setdefault(stem, image)
            if other is not image:
                both = f"{printable(other)} and {printable(image)}"
                raise DataError(f"mask {printable(masks[stem].place)} fits two images, {both}; rename one of them")
    strays = sorted(set(masks) - set(owners))
    if strays:
        raise DataError(
            f"mask {printable(masks[strays[0]].place)} (one of {len(strays)}) has no image; a mask is named as its "
            "image, or as its image and `_mask`"
        )
    return {image: masks[stem].files for stem, image in owners.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Masks:
    """The masks of one stem: one file, or the files of a folder."""

    place: Path
    files: tuple[Path, ...]


def _masks_by_stem(mask_folder: Path) -> dict[str, _Masks]:
    entries = [(path.stem, _Masks(place=path, files=(path,))) for path in list_images(mask_folder)]
    entries += [(path.name, _Masks(place=path, files=tuple(list_images(path)))) for path in list_folders(mask_folder)]
    masks: dict[str, _Masks] = {}
    for stem, entry in entries:
        if not entry.files:
            raise DataError(f"mask folder {printable(entry.place)} holds no pictures; remove it")
        other = masks.setdefault(stem, entry)
        if other is not entry:
            raise DataError(f"masks {printable(other.place)} and {printable(entry.place)} have one name; keep one")
    return masks


def refuse_orphan_masks(category_folder: Path, mask_root: Path) -> None:
    """Checks that every folder of masks has a folder of test images.

    Raises:
        DataError: naming the folder of masks that has none.
    """
    for mask_folder in list_folders(mask_root):
        images_folder = category_folder / "test" / mask_folder.name
        if not images_folder.is_dir() and (list_images(mask_folder) or list_folders(mask_folder)):
            raise DataError(f"masks in {mask_folder} have no images: {images_folder} does not exist")


def with_groups(root: Path, images: Sequence[FoundImage]) -> list[FoundImage]:
    """Returns the images with the groups of `groups.csv` at the root, or as they are if there is none.

    Raises:
        DataError: if the table does not cover exactly the images of the categories read.
    """
    groups = read_groups(root)
    if groups is None:
        return list(images)
    names = {image.path: image.path.relative_to(root).as_posix() for image in images}
    read = {image.category for image in images}
    listed = {path for path in groups if path.split("/")[0] in read}
    for path in sorted(set(names.values()) ^ listed):
        problem = "is listed but not on disk" if path in listed else "is not listed"
        raise DataError(f"{root / GROUPS_FILE}: image {path} {problem}; every image needs exactly one row")
    return [dataclasses.replace(image, group_id=groups[names[image.path]]) for image in images]
