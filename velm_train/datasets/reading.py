"""What all readers share: folders in, the picture files and folders inside them out."""

import csv
import difflib
import errno
import io
import os
from collections.abc import Iterable, Iterator, Sequence
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
    folder = link.parent.resolve()
    if link.resolve() in {folder, *folder.parents}:
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


def printable(path: Path) -> str:
    """Returns the path with bytes that are not UTF-8 written as backslash escapes."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def read_csv(path: Path, *, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Reads a table that must have certain columns; others are passed over.

    Yields:
        Place of the row for error messages, and column -> field without surrounding blanks, "" where it is not given.

    Raises:
        DataError: if the file is not UTF-8 text or not CSV, a column is missing, or a row has more fields than columns.
    """
    try:
        content = path.read_text(encoding="utf-8-sig")
        reader = csv.DictReader(io.StringIO(content, newline=""), restkey="", restval="", strict=True)
        rows = [(f"{path} row {reader.line_num}", row) for row in reader]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from error
    except csv.Error as error:
        raise DataError(f"{path} is not CSV ({error}); look for a quotation mark that is never closed") from error
    if not set(columns) <= set(reader.fieldnames or ()):
        raise DataError(
            f"{path}: columns are {', '.join(reader.fieldnames or ())}, expected {', '.join(columns[:-1])} and "
            f"{columns[-1]}"
        )
    for where, row in rows:
        if "" in row:
            raise DataError(f"{where}: more fields than columns; quote a field that contains a comma")
        yield where, {column: row[column].strip() for column in columns}


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
    for where, row in read_csv(path, columns=("image", "group")):
        image, group = row["image"], row["group"]
        if not image or not group:
            raise DataError(f"{where}: image and group must both be given")
        if image in groups:
            raise DataError(f"{where}: image {image!r} is listed twice")
        groups[image] = group
    return groups
