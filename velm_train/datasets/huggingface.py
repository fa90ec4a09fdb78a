"""Writes a Hugging Face data set as files: a saved folder or a hub id in, pictures and `table.jsonl` out.

The pictures are the stored bytes, never decoded and encoded again. `find_table` reads what is written.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from datasets import Dataset, DatasetDict, load_dataset, load_from_disk
from datasets import Image as ImageFeature

from velm_train.core.artifacts import require_free_disk, write_atomic
from velm_train.core.errors import DataError
from velm_train.core.hashing import sha256_json
from velm_train.core.progress import Progress
from velm_train.core.records import NORMAL_DEFECT_TYPE, TYPE_JOINER
from velm_train.datasets.huggingface_values import Labels, picture_bytes, picture_suffix, read_labels
from velm_train.datasets.reading import nearest

HUGGINGFACE_VERSION = 1
"""Raised when the same source and settings give other files."""

TABLE_NAME = "table.jsonl"

_SPLITS: Mapping[str, str] = MappingProxyType(
    {"": "", "train": "train", "validation": "train", "valid": "train", "val": "train", "test": "test"}
)
"""Name of a split -> split in the table; "" is a data set without splits, where a reader's rule decides."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HuggingFaceColumns:
    """Which column holds what; None for what the data set does not have.

    Attributes:
        image: pictures, or paths of picture files.
        defect_type: class names, class numbers with names, text, or lists of them.
        category: class names or text.
        mask: pictures as for image; an empty field is no mask.
        group: anything that is equal for views of one physical part.
    """

    image: str
    defect_type: str
    category: str | None
    mask: str | None
    group: str | None


def fingerprint(source: str, *, subset: str | None) -> str:
    """Returns a hash of what a source holds: features, rows, and sizes and times of its files.

    Pictures that the data set only names by path are not looked at.

    Raises:
        DataError: if it cannot be loaded.
    """
    return sha256_json(
        {
            name: {
                "features": str(split.features),
                "num_rows": split.num_rows,
                "files": [_file_facts(Path(entry["filename"])) for entry in split.cache_files],
            }
            for name, split in _load(source, subset=subset).items()
        }
    )


def materialise_huggingface(
    source: str,
    *,
    subset: str | None,
    columns: HuggingFaceColumns,
    category: str,
    normal_labels: Sequence[str],
    out: Path,
    progress: Progress,
) -> None:
    """Writes `images/<split>/<number>.<suffix>`, `masks/...` and `table.jsonl` into a folder.

    Splits train and validation become "train", test becomes "test". A picture that cannot be read is written all the
    same, so that indexing names it and `on_bad_file` decides.

    Args:
        source: folder made by `save_to_disk`, folder of files that `load_dataset` reads, or hub id; a hub id needs no
            network if the data set is in the cache.
        subset: the hub data set's configuration, or None if it has one.
        columns: which column holds what.
        category: of all images where no column gives it.
        normal_labels: values of the defect_type column that mean a normal image.
        out: folder to fill.
        progress: receives one unit an image.

    Raises:
        DataError: if the source, a split, a column or a label is not as it has to be.
        ResourceError: if there is no space or the folder cannot be written.
    """
    splits = _load(source, subset=subset)
    for name in splits:
        if name not in _SPLITS:
            known = ", ".join(filter(None, _SPLITS))
            raise DataError(f"{source}: split {name!r} is unknown{nearest(name, _SPLITS)}; known: {known}")
    needed_bytes = sum(split.data.nbytes for split in splits.values())
    require_free_disk(out, needed_bytes=needed_bytes)
    rows: list[dict[str, str | None]] = []
    with progress.stage(f"unpacking {source}", total=sum(split.num_rows for split in splits.values())) as advance:
        for name, split in splits.items():
            reader = _SplitReader(source=source, name=name, columns=columns, category=category, out=out)
            for row in reader.rows(split, normal_labels=normal_labels):
                rows.append(row)
                advance(1)
    found = sorted({str(row["defect_type"]) for row in rows})
    if NORMAL_DEFECT_TYPE not in found:
        raise DataError(
            f"{source}: no row of {columns.defect_type!r} is normal; name the labels that mean normal in normal_labels "
            f"(given: {', '.join(normal_labels)}; found: {', '.join(found)})"
        )
    write_atomic(out / TABLE_NAME, "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))


def _load(source: str, *, subset: str | None) -> dict[str, Dataset]:
    """Returns the splits by name; a data set without splits has the name ""."""
    folder = Path(source).expanduser()
    saved = (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()
    try:
        loaded = (
            load_from_disk(str(folder)) if saved else load_dataset(str(folder) if folder.exists() else source, subset)
        )
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"Hugging Face data set {source!r} cannot be loaded ({reason}); give a folder made by save_to_disk, or the "
            "id of a data set that is in the cache or can be fetched"
        ) from error
    if not isinstance(loaded, DatasetDict):
        return {"": loaded}
    return {str(name): split for name, split in loaded.items()}


def _file_facts(path: Path) -> list[str | int]:
    status = path.stat()
    return [path.name, status.st_size, status.st_mtime_ns]


@dataclass(frozen=True, kw_only=True, slots=True)
class _SplitReader:
    """Writes the pictures of one split."""

    source: str
    name: str
    columns: HuggingFaceColumns
    category: str
    out: Path

    def rows(self, split: Dataset, *, normal_labels: Sequence[str]) -> Iterator[dict[str, str | None]]:
        """Yields one row of the table for every row of the split, after its pictures are written."""
        columns = self.columns
        pictures = [columns.image, *([columns.mask] if columns.mask else [])]
        labelled = [columns.defect_type, *([columns.category] if columns.category else [])]
        wanted = list(dict.fromkeys([*pictures, *labelled, *([columns.group] if columns.group else [])]))
        for column in wanted:
            if column not in split.column_names:
                found = ", ".join(split.column_names)
                raise DataError(
                    f"{self._where}: no column {column!r}{nearest(column, split.column_names)}; found: {found}"
                )
        labels = {column: read_labels(split.features[column]) for column in labelled}
        kept = split.select_columns(wanted)
        for column in pictures:
            kept = kept.cast_column(column, ImageFeature(decode=False))
        for number, row in enumerate(kept):
            yield self._row(number, row, labels=labels, normal_labels=normal_labels)

    @property
    def _where(self) -> str:
        return f"{self.source} {self.name}".strip()

    def _row(
        self, number: int, row: Mapping[str, object], *, labels: Mapping[str, Labels], normal_labels: Sequence[str]
    ) -> dict[str, str | None]:
        columns, where = self.columns, f"{self._where} row {number}"
        types = labels[columns.defect_type].names(row[columns.defect_type], where=f"{where} {columns.defect_type}")
        defects = sorted(set(types) - {*normal_labels, NORMAL_DEFECT_TYPE})
        category = self.category
        if columns.category:
            names = labels[columns.category].names(row[columns.category], where=f"{where} {columns.category}")
            if len(names) != 1:
                raise DataError(f"{where}: {len(names)} categories are given; one is expected")
            category = names[0]
        image = self._write(row[columns.image], folder="images", number=number, where=where)
        if image is None:
            raise DataError(f"{where}: {columns.image} holds no picture")
        group = None if columns.group is None or row[columns.group] is None else str(row[columns.group])
        return {
            "image": image,
            "category": category,
            "defect_type": TYPE_JOINER.join(defects) or NORMAL_DEFECT_TYPE,
            "mask": self._write(row[columns.mask], folder="masks", number=number, where=where)
            if columns.mask
            else None,
            "group": group,
            "split": _SPLITS[self.name] or None,
        }

    def _write(self, value: object, *, folder: str, number: int, where: str) -> str | None:
        """Writes one picture and returns its path below the folder of the table, or None if the field is empty."""
        content = picture_bytes(value, where=where)
        if content is None:
            return None
        name = f"{folder}/{self.name or 'all'}/{number:06d}{picture_suffix(content)}"
        write_atomic(self.out / name, content)
        return name
