"""What all folder readers share: folders and files in, checked `ImageRecord`s out."""

import csv
import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

from velm_train.core.errors import DataError
from velm_train.core.hashing import sha256_file
from velm_train.core.images import read_size_hw
from velm_train.core.records import ImageRecord, Split

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
"""Picture files that are read, in lower case; upper case is read as well."""

GROUPS_FILE = "groups.csv"
"""Optional table at a data set's root, columns image (path below the root) and group."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns ` (did you mean 'x'?)` for a known name close to this one, or nothing."""
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def list_images(folder: Path) -> list[Path]:
    """Returns the picture files directly inside a folder, sorted by name; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )


def list_folders(folder: Path) -> list[Path]:
    """Returns the visible folders directly inside a folder, sorted by name; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def require_root(root: Path) -> None:
    """Checks the root of a data set.

    Raises:
        DataError: if it does not exist, is not a folder, or is empty.
    """
    if not root.exists():
        raise DataError(f"data root {root} does not exist; set dataset.root to the folder that holds the categories")
    if not root.is_dir():
        raise DataError(f"data root {root} is a file; set dataset.root to the folder that holds the categories")
    if not list_folders(root):
        raise DataError(f"data root {root} holds no folders; one folder a category is expected")


def choose_categories(present: Sequence[str], requested: Sequence[str], *, root: Path) -> list[str]:
    """Returns the categories to read, in alphabetical order: the requested ones, or all if none is requested.

    Raises:
        DataError: if a requested category is not there, with the nearest spelling.
    """
    for name in requested:
        if name not in present:
            known = ", ".join(sorted(present))
            raise DataError(f"category {name!r} is not in {root}{nearest(name, present)}; found: {known}")
    return sorted(set(requested) if requested else set(present))


def make_record(
    path: Path,
    *,
    dataset: str,
    category: str,
    relative_path: str,
    split: Split,
    defect_type: str,
    gt_mask_path: Path | None,
    group_id: str | None,
) -> ImageRecord:
    """Reads an image's header and hash and makes its record.

    Args:
        path: the image file.
        dataset: name of the data set.
        category: name of the category.
        relative_path: path below the category folder, with forward slashes.
        split: the folder's split.
        defect_type: the type's folder name.
        gt_mask_path: its mask, or None.
        group_id: the physical part, or None for an image of its own.

    Raises:
        DataError: if the image or mask cannot be read, or their sizes differ.
    """
    size_hw = read_size_hw(path)
    if gt_mask_path is not None:
        mask_hw = read_size_hw(gt_mask_path)
        if mask_hw != size_hw:
            raise DataError(
                f"mask {gt_mask_path} is {mask_hw[0]}x{mask_hw[1]} (height x width), its image {path} "
                f"{size_hw[0]}x{size_hw[1]}; they must be equal"
            )
    image_id = f"{dataset}/{category}/{relative_path}"
    return ImageRecord(
        image_id=image_id,
        dataset=dataset,
        category=category,
        split=split,
        defect_type=defect_type,
        image_path=path,
        gt_mask_path=gt_mask_path,
        sha256=sha256_file(path),
        group_id=image_id if group_id is None else group_id,
        size_hw=size_hw,
    )


def read_groups(root: Path) -> dict[str, str] | None:
    """Reads the table of groups at a data set's root.

    Returns:
        Image path below the root -> group, or None if there is no table.

    Raises:
        DataError: naming the row that lacks a field or repeats an image.
    """
    path = root / GROUPS_FILE
    if not path.is_file():
        return None
    groups: dict[str, str] = {}
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        if reader.fieldnames is None or set(reader.fieldnames) != {"image", "group"}:
            raise DataError(f"{path}: columns are {reader.fieldnames}, expected image and group")
        for row in reader:
            image, group = row["image"], row["group"]
            if not image or not group:
                raise DataError(f"{path} row {reader.line_num}: image and group must both be given")
            if image in groups:
                raise DataError(f"{path} row {reader.line_num}: image {image!r} is listed twice")
            groups[image] = group
    return groups
