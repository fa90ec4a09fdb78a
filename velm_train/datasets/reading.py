"""What all readers share: folders in, the picture files and folders inside them out."""

import csv
import difflib
import errno
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from velm_train.core.errors import DataError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
"""Picture files that are read, in lower case; upper case is read as well."""

GROUPS_FILE = "groups.csv"
"""Optional table at a data set's root, columns image (path below the root) and group."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns ` (did you mean 'x'?)` for a known name close to this one, or nothing."""
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def list_images(folder: Path) -> list[Path]:
    """Returns the picture files directly inside a folder, sorted by name; none if there is no such folder.

    Raises:
        DataError: for a symbolic link that leads nowhere or in a circle.
    """
    return [Path(entry.path) for entry in _entries(folder) if entry.is_file() and is_image_name(entry.name)]


def is_image_name(name: str) -> bool:
    """Tells whether a file name ends like a picture's, in lower or upper case."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def list_folders(folder: Path) -> list[Path]:
    """Returns the visible folders directly inside a folder, sorted by name; none if there is no such folder.

    Raises:
        DataError: for a symbolic link that leads nowhere or in a circle.
    """
    return [Path(entry.path) for entry in _entries(folder) if entry.is_dir()]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Returns the visible entries of a folder, sorted by name."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as found:
        entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_symlink():
            _follow(Path(entry.path))
    return entries


def _follow(link: Path) -> None:
    try:
        link.stat()
    except OSError as error:
        reason = "leads in a circle" if error.errno == errno.ELOOP else f"leads nowhere ({error.strerror})"
        raise DataError(f"symbolic link {link} {reason}; mend or remove it") from error
    if link.resolve() in link.absolute().parents:
        raise DataError(f"symbolic link {link} leads to a folder that holds it; remove it")


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
