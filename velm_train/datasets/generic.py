"""Reads plain folders `<category>/<type>/*` and tables (CSV, JSONL) of images: files in, `ImageRecord`s out."""

import csv
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from velm_train.core.errors import DataError
from velm_train.core.progress import Progress
from velm_train.core.records import NORMAL_DEFECT_TYPE, ImageRecord, Split
from velm_train.datasets.reading import (
    choose_categories,
    list_folders,
    list_images,
    make_record,
    nearest,
    require_root,
)

logger = logging.getLogger(__name__)

MASKS_FOLDER = "masks"
"""Folder beside a category's types that holds `<type>/<stem>.png`."""

_REQUIRED_COLUMNS = ("image", "category", "defect_type")
_OPTIONAL_COLUMNS = ("mask", "group", "split")


def split_of(defect_type: str) -> Split:
    """Returns the split of an image in a data set without split folders: normals train, defects test."""
    return "train" if defect_type == NORMAL_DEFECT_TYPE else "test"


def read_generic_folder(
    root: Path, *, dataset: str, categories: Sequence[str], progress: Progress
) -> list[ImageRecord]:
    """Reads `<root>/<category>/<type>/*`, where type `good` holds the normals.

    Masks, if any, are `<root>/<category>/masks/<type>/<stem>.<suffix>`. There is no split on disk: normals get
    split "train" and defects "test"; a protocol gives the roles.

    Args:
        root: folder that holds one folder a category.
        dataset: name used in every image_id.
        categories: categories to read; empty for all.
        progress: receives one unit an image.

    Returns:
        Records sorted by image_id.

    Raises:
        DataError: if the root, a category, an image or a mask is not as it has to be.
    """
    require_root(root)
    chosen = choose_categories([folder.name for folder in list_folders(root)], categories, root=root)
    found = [(category, path) for category in chosen for path in _category_images(root / category)]
    records: list[ImageRecord] = []
    with progress.stage(f"reading {dataset}", total=len(found)) as advance:
        for category, path in found:
            records.append(
                make_record(
                    path,
                    dataset=dataset,
                    category=category,
                    relative_path=f"{path.parent.name}/{path.name}",
                    split=split_of(path.parent.name),
                    defect_type=path.parent.name,
                    gt_mask_path=_mask_of(path),
                    group_id=None,
                )
            )
            advance(1)
    logger.info("%s: %d images of %d categories in %s", dataset, len(records), len(chosen), root)
    return sorted(records, key=lambda record: record.image_id)


def _category_images(folder: Path) -> list[Path]:
    if not list_images(folder / NORMAL_DEFECT_TYPE):
        raise DataError(f"category {folder.name!r}: no normal images in {folder / NORMAL_DEFECT_TYPE}")
    types = [entry for entry in list_folders(folder) if entry.name != MASKS_FOLDER]
    images = [path for entry in types for path in list_images(entry)]
    stems = {(path.parent.name, path.stem) for path in images}
    for mask_folder in list_folders(folder / MASKS_FOLDER):
        for mask in list_images(mask_folder):
            if (mask_folder.name, mask.stem) not in stems:
                raise DataError(f"mask {mask} has no image named {mask.stem} in {folder / mask_folder.name}")
    return images


def _mask_of(path: Path) -> Path | None:
    if path.parent.name == NORMAL_DEFECT_TYPE:
        return None
    masks = list_images(path.parent.parent / MASKS_FOLDER / path.parent.name)
    return next((mask for mask in masks if mask.stem == path.stem), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    """One row of a table with its place in the file; empty strings where an optional field is not given."""

    where: str
    fields: dict[str, str]


def read_table(path: Path, *, dataset: str, progress: Progress) -> list[ImageRecord]:
    """Reads a CSV or JSONL table with columns image, category, defect_type and optionally mask, group, split.

    Paths are relative to the table's folder. Without a split, normals are "train" and defects "test".

    Args:
        path: file that ends in .csv or .jsonl.
        dataset: name used in every image_id.
        progress: receives one unit a row.

    Returns:
        Records sorted by image_id.

    Raises:
        DataError: naming the row (line of the file) that is wrong.
    """
    rows = _read_rows(path)
    records: dict[str, ImageRecord] = {}
    with progress.stage(f"reading {dataset}", total=len(rows)) as advance:
        for row in rows:
            record = _row_record(row, folder=path.parent, dataset=dataset)
            if record.image_id in records:
                raise DataError(f"{row.where}: image {row.fields['image']!r} is listed twice")
            records[record.image_id] = record
            advance(1)
    logger.info("%s: %d images in %s", dataset, len(records), path)
    return [records[image_id] for image_id in sorted(records)]


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
    if not rows:
        raise DataError(f"table {path} has no rows")
    return rows


def _csv_rows(path: Path) -> Iterator[_Row]:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream, restkey="", restval="")
        _check_columns(f"{path} row 1", list(reader.fieldnames or ()))
        for row in reader:
            where = f"{path} row {reader.line_num}"
            if "" in row:
                raise DataError(f"{where}: more fields than columns; quote a path that contains a comma")
            yield _Row(where=where, fields={column: row[column].strip() for column in row})


def _jsonl_rows(path: Path) -> Iterator[_Row]:
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path} row {number}"
        try:
            content = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{where}: not JSON ({error.msg} at column {error.colno})") from error
        if not isinstance(content, dict):
            raise DataError(f"{where}: a JSON object is expected, got {type(content).__name__}")
        _check_columns(where, list(content))
        for column, value in content.items():
            if value is not None and not isinstance(value, str):
                raise DataError(f"{where}: {column} must be text, got {value!r}")
        yield _Row(where=where, fields={column: (value or "").strip() for column, value in content.items()})


def _check_columns(where: str, columns: list[str]) -> None:
    known = [*_REQUIRED_COLUMNS, *_OPTIONAL_COLUMNS]
    for column in columns:
        if column not in known:
            raise DataError(
                f"{where}: column {column!r} is unknown{nearest(column, known)}; allowed: {', '.join(known)}"
            )
    missing = [column for column in _REQUIRED_COLUMNS if column not in columns]
    if missing:
        raise DataError(f"{where}: columns {', '.join(missing)} are missing; required: {', '.join(_REQUIRED_COLUMNS)}")


def _row_record(row: _Row, *, folder: Path, dataset: str) -> ImageRecord:
    fields = dict.fromkeys(_OPTIONAL_COLUMNS, "") | row.fields
    for column in _REQUIRED_COLUMNS:
        if not fields[column]:
            raise DataError(f"{row.where}: {column} is empty")
    defect_type = fields["defect_type"]
    if fields["split"] not in {"", "train", "test"}:
        raise DataError(f"{row.where}: split is {fields['split']!r}; allowed: train, test, or empty")
    split: Split = split_of(defect_type)
    if fields["split"]:
        split = "train" if fields["split"] == "train" else "test"
    try:
        return make_record(
            folder / fields["image"],
            dataset=dataset,
            category=fields["category"],
            relative_path=Path(fields["image"]).as_posix().lstrip("/"),
            split=split,
            defect_type=defect_type,
            gt_mask_path=folder / fields["mask"] if fields["mask"] else None,
            group_id=fields["group"] or None,
        )
    except DataError as error:
        raise DataError(f"{row.where}: {error}") from error
