"""Reads MVTec-style folders: `<category>/{train/good, test/<type>, ground_truth/<type>}` in, `ImageRecord`s out."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from velm_train.core.errors import DataError
from velm_train.core.progress import Progress
from velm_train.core.records import NORMAL_DEFECT_TYPE, ImageRecord, Split
from velm_train.datasets.reading import (
    GROUPS_FILE,
    IMAGE_SUFFIXES,
    choose_categories,
    list_folders,
    list_images,
    make_record,
    read_groups,
    require_root,
)

logger = logging.getLogger(__name__)

_SPLITS: tuple[Split, Split] = ("train", "test")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """An image file with what its place in the folders says."""

    path: Path
    category: str
    split: Split
    defect_type: str
    gt_mask_path: Path | None


def read_mvtec_style(root: Path, *, dataset: str, categories: Sequence[str], progress: Progress) -> list[ImageRecord]:
    """Reads every image of the chosen categories.

    Masks are `ground_truth/<type>/<stem>_mask.<suffix>` or `<stem>.<suffix>`; a defect image without a mask is
    allowed. `groups.csv` at the root, if there, gives the group of every image.

    Args:
        root: folder that holds one folder a category.
        dataset: name used in every image_id.
        categories: categories to read; empty for all.
        progress: receives one unit an image.

    Returns:
        Records sorted by image_id.

    Raises:
        DataError: if the root, a category, an image, a mask or the table of groups is not as it has to be.
    """
    require_root(root)
    if (root / "train").is_dir() and (root / "test").is_dir():
        raise DataError(f"data root {root} is itself a category (it holds train and test); give its parent folder")
    folders = list_folders(root)
    present = [folder.name for folder in folders if any((folder / split).is_dir() for split in _SPLITS)]
    skipped = [folder.name for folder in folders if folder.name not in present]
    if not present:
        raise DataError(f"data root {root} holds no category: none of its folders has a train or test folder")
    if skipped:
        progress.note(f"{dataset}: folders without train or test are not categories: {', '.join(skipped)}")
    chosen = choose_categories(present, categories, root=root)
    found = [image for category in chosen for image in _find_images(root, category)]
    groups = _groups_of(root, found)
    records: list[ImageRecord] = []
    with progress.stage(f"reading {dataset}", total=len(found)) as advance:
        for image in found:
            records.append(_record(root, image, dataset=dataset, groups=groups))
            advance(1)
    logger.info("%s: %d images of %d categories in %s", dataset, len(records), len(chosen), root)
    return sorted(records, key=lambda record: record.image_id)


def _record(root: Path, image: _Found, *, dataset: str, groups: dict[str, str] | None) -> ImageRecord:
    return make_record(
        image.path,
        dataset=dataset,
        category=image.category,
        relative_path=image.path.relative_to(root / image.category).as_posix(),
        split=image.split,
        defect_type=image.defect_type,
        gt_mask_path=image.gt_mask_path,
        group_id=None if groups is None else groups[image.path.relative_to(root).as_posix()],
    )


def _find_images(root: Path, category: str) -> list[_Found]:
    folder = root / category
    train_good = folder / "train" / NORMAL_DEFECT_TYPE
    if not list_images(train_good):
        allowed = ", ".join(sorted(IMAGE_SUFFIXES))
        raise DataError(f"category {category!r}: no images in {train_good}; normal images ({allowed}) are needed there")
    others = [entry.name for entry in list_folders(folder / "train") if entry.name != NORMAL_DEFECT_TYPE]
    if others:
        raise DataError(
            f"category {category!r}: {folder / 'train'} holds {', '.join(others)} beside good; move defects to test"
        )
    found: list[_Found] = []
    for split in _SPLITS:
        for type_folder in list_folders(folder / split):
            images = list_images(type_folder)
            masks = _pair_masks(images, folder / "ground_truth" / type_folder.name) if split == "test" else {}
            found += [
                _Found(
                    path=path,
                    category=category,
                    split=split,
                    defect_type=type_folder.name,
                    gt_mask_path=masks.get(path) if type_folder.name != NORMAL_DEFECT_TYPE else None,
                )
                for path in images
            ]
    _refuse_orphan_mask_folders(folder)
    return found


def _pair_masks(images: list[Path], mask_folder: Path) -> dict[Path, Path]:
    """Returns image -> mask; every mask must belong to an image."""
    masks = {path.stem: path for path in list_images(mask_folder)}
    pairs = {
        image: masks[stem]
        for image in images
        for stem in (image.stem, f"{image.stem}_mask")  # the later one wins: `<stem>_mask` is the usual name
        if stem in masks
    }
    strays = sorted(set(masks.values()) - set(pairs.values()))
    if strays:
        raise DataError(
            f"mask {strays[0]} (one of {len(strays)}) has no image; "
            f"a mask is named as its image, or as its image and `_mask`"
        )
    return pairs


def _refuse_orphan_mask_folders(category_folder: Path) -> None:
    for mask_folder in list_folders(category_folder / "ground_truth"):
        images_folder = category_folder / "test" / mask_folder.name
        if list_images(mask_folder) and not images_folder.is_dir():
            raise DataError(f"masks in {mask_folder} have no images: {images_folder} does not exist")


def _groups_of(root: Path, found: list[_Found]) -> dict[str, str] | None:
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
