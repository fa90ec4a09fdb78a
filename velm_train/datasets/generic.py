"""Reads plain folders `<category>/<type>/*` and tables (CSV, JSONL) of images: files in, `FoundImage`s out."""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from velm_train.core.errors import DataError
from velm_train.core.records import NORMAL_DEFECT_TYPE, Split
from velm_train.datasets.found import Found, FoundImage, types_of_folder
from velm_train.datasets.mvtec_style import find_type
from velm_train.datasets.reading import (
    choose_categories,
    list_folders,
    list_images,
    nearest,
    require_root,
)

MASKS_FOLDER = "masks"
"""Folder beside a category's types that holds `<type>/<stem>.png`."""

MASK_JOINER = "|"
"""Joins the masks of an image that has several, in a table."""

_REQUIRED_COLUMNS = ("image", "category", "defect_type")
_OPTIONAL_COLUMNS = ("mask", "group", "split")


def split_of(defect_type: str) -> Split:
    """Returns the split of an image in a data set without split folders: normals train, defects test."""
    return "train" if defect_type == NORMAL_DEFECT_TYPE else "test"


def find_generic_folder(root: Path, *, categories: Sequence[str]) -> Found:
    """Finds `<root>/<category>/<type>/*`, where type `good` holds the normals.

    Masks, if any, lie in `<root>/<category>/masks/<type>/` and are named as for `pair_masks`. There is no split on
    disk: normals get split "train" and defects "test"; a protocol gives the roles.

    Args:
        root: folder that holds one folder a category.
        categories: categories to read; empty for all.

    Raises:
        DataError: if the root, a category or a mask is not as it has to be.
    """
    require_root(root)
    chosen = choose_categories([folder.name for folder in list_folders(root)], categories, root=root)
    images = tuple(image for category in chosen for image in _category_images(root / category))
    return Found(images=images, notes=())


def _category_images(folder: Path) -> list[FoundImage]:
    if not list_images(folder / NORMAL_DEFECT_TYPE):
        raise DataError(f"category {folder.name!r}: no normal images in {folder / NORMAL_DEFECT_TYPE}")
    found: list[FoundImage] = []
    types = [entry for entry in list_folders(folder) if entry.name != MASKS_FOLDER]
    for entry in types:
        found += find_type(
            entry,
            category_folder=folder,
            split=split_of(entry.name),
            defect_types=types_of_folder(entry.name),
            mask_folder=folder / MASKS_FOLDER / entry.name,
        )
    for orphan in sorted({entry.name for entry in list_folders(folder / MASKS_FOLDER)} - {one.name for one in types}):
        raise DataError(f"masks in {folder / MASKS_FOLDER / orphan} have no images: {folder / orphan} does not exist")
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    """One row of a table with its place in the file; empty strings where an optional field is not given."""

    where: str
    fields: dict[str, str]


def find_table(path: Path, *, categories: Sequence[str]) -> Found:
    """Reads a CSV or JSONL table with columns image, category, defect_type and optionally mask, group, split.

    Paths are relative to the table's folder. Without a split, normals are "train" and defects "test". Several types
    of one image are joined by `+`, several masks by `|`.

    Args:
        path: file that ends in .csv or .jsonl.
        categories: categories to read; empty for all.

    Raises:
        DataError: naming the row (line of the file) that is wrong.
    """
    images = [_row_image(row, folder=path.parent) for row in _read_rows(path)]
    chosen = choose_categories(sorted({image.category for image in images}), categories, root=path)
    return Found(images=tuple(image for image in images if image.category in chosen), notes=())


def _read_rows(path: Path) -> list[_Row]:
    if not path.is_file():
        raise DataError(f"table {path} does not exist")
    readers = {".csv": _csv_rows, ".jsonl": _jsonl_rows}
    if path.suffix.lower() not in readers:
        raise DataError(f"table {path} must end in .csv or .jsonl")
    try:
        rows = list(readers[path.suffix.lower()](path))
    except UnicodeDecodeError as error:
        raise DataError(f"table {path} is not UTF-8 text ({error.reason} at byte {error.start})") from error
    except csv.Error as error:
        raise DataError(f"table {path} is not CSV ({error}); look for a quotation mark that is never closed") from error
    if not rows:
        raise DataError(f"table {path} has no rows")
    return rows


def _csv_rows(path: Path) -> Iterator[_Row]:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream, restkey="", restval="", strict=True)
        _check_columns(f"{path} row 1", list(reader.fieldnames or ()))
        for row in reader:
            where = f"{path} row {reader.line_num}"
            if "" in row:
                raise DataError(f"{where}: more fields than columns; quote a path that contains a comma")
            yield _Row(where=where, fields={column: row[column].strip() for column in row})


class _Pairs(list[tuple[str, object]]):
    """The columns and values of a JSON object, in which a column may come twice."""


def _jsonl_rows(path: Path) -> Iterator[_Row]:
    lines = path.read_text(encoding="utf-8-sig").split("\n")  # splitlines would cut at U+2028 inside a text
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path} row {number}"
        try:
            content = json.loads(line, object_pairs_hook=_Pairs)
        except json.JSONDecodeError as error:
            raise DataError(f"{where}: not JSON ({error.msg} at column {error.colno})") from error
        if not isinstance(content, _Pairs):
            raise DataError(f"{where}: a JSON object is expected, got {type(content).__name__}")
        _check_columns(where, [column for column, _ in content])
        fields: dict[str, str] = {}
        for column, value in content:
            if value is not None and not isinstance(value, str):
                raise DataError(f"{where}: {column} must be text, got {value!r}")
            fields[column] = (value or "").strip()
        yield _Row(where=where, fields=fields)


def _check_columns(where: str, columns: list[str]) -> None:
    known = [*_REQUIRED_COLUMNS, *_OPTIONAL_COLUMNS]
    for column in columns:
        if column not in known:
            raise DataError(
                f"{where}: column {column!r} is unknown{nearest(column, known)}; allowed: {', '.join(known)}"
            )
        if columns.count(column) > 1:
            raise DataError(f"{where}: column {column!r} is given {columns.count(column)} times")
    missing = [column for column in _REQUIRED_COLUMNS if column not in columns]
    if missing:
        raise DataError(f"{where}: columns {', '.join(missing)} are missing; required: {', '.join(_REQUIRED_COLUMNS)}")


def _row_image(row: _Row, *, folder: Path) -> FoundImage:
    fields = dict.fromkeys(_OPTIONAL_COLUMNS, "") | row.fields
    for column in _REQUIRED_COLUMNS:
        if not fields[column]:
            raise DataError(f"{row.where}: {column} is empty")
    defect_type = fields["defect_type"]
    if defect_type != NORMAL_DEFECT_TYPE and defect_type.lower() == NORMAL_DEFECT_TYPE:
        raise DataError(f"{row.where}: defect_type is {defect_type!r}; a normal image has {NORMAL_DEFECT_TYPE!r}")
    if fields["split"] not in {"", "train", "test"}:
        raise DataError(f"{row.where}: split is {fields['split']!r}; allowed: train, test, or empty")
    split: Split = split_of(defect_type)
    if fields["split"]:
        split = "train" if fields["split"] == "train" else "test"
    return FoundImage(
        path=folder / fields["image"],
        category=fields["category"],
        relative_path=Path(fields["image"]).as_posix().lstrip("/"),
        split=split,
        defect_types=types_of_folder(defect_type),
        gt_mask_paths=tuple(folder / name.strip() for name in fields["mask"].split(MASK_JOINER) if name.strip()),
        group_id=fields["group"] or None,
        where=row.where,
    )
