"""Reads Real-IAD's published splits: `<category>.json` in, one checked row an image out."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from velm_train.core.errors import DataError
from velm_train.core.records import Split

OK = "OK"
"""Folder, and `anomaly_class`, of normal images."""

SPLIT_FOLDERS = ("realiad_jsons/realiad_jsons", "realiad_jsons")
"""Where the split of all views lies, the layout as unpacked first."""

_SPLITS: tuple[Split, Split] = ("train", "test")


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitRow:
    """One image of the published split.

    Attributes:
        image: path below the category folder, with forward slashes.
        code: the folder below NG, or OK.
        gt_mask: mask below the category folder, or None.
        where: file, list and number, for error messages.
    """

    image: str
    code: str
    gt_mask: str | None
    split: Split
    where: str

    @property
    def part(self) -> str:
        """The folder of the physical part, such as `NG/AK/S0001`."""
        return PurePosixPath(self.image).parent.as_posix()


def find_split_table(places: Sequence[Path], category: str) -> Path | None:
    """Returns the first split file of a category below any of the places, or None."""
    for place in places:
        for folder in SPLIT_FOLDERS:
            path = place / folder / f"{category}.json"
            if path.is_file():
                return path
    return None


def read_split_table(path: Path, *, category: str) -> list[SplitRow]:
    """Reads the lists "train" and "test" of a split file.

    Raises:
        DataError: naming the entry that is not as it has to be.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"split {path} cannot be read as JSON ({error})") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(split), list) for split in _SPLITS):
        raise DataError(f"split {path}: an object with the lists train and test is expected")
    normal_class = OK
    if isinstance(content.get("meta"), dict) and "normal_class" in content["meta"]:
        normal_class = str(content["meta"]["normal_class"])
    rows: list[SplitRow] = []
    for split in _SPLITS:
        for number, entry in enumerate(content[split], start=1):
            where = f"{path} {split} {number}"
            rows.append(_row(entry, split=split, category=category, normal_class=normal_class, where=where))
    return rows


def _row(entry: object, *, split: Split, category: str, normal_class: str, where: str) -> SplitRow:
    if not isinstance(entry, dict):
        raise DataError(f"{where}: an object is expected, got {entry!r}")
    if "category" in entry and entry["category"] != category:
        raise DataError(f"{where}: category is {entry['category']!r} in the file of {category!r}")
    code = _text(entry, "anomaly_class", where=where)
    gt_mask = _path(entry, "mask_path", where=where) if entry.get("mask_path") else None
    return SplitRow(
        image=_path(entry, "image_path", where=where),
        code=OK if code == normal_class else code,
        gt_mask=None if code == normal_class else gt_mask,
        split=split,
        where=where,
    )


def _text(entry: dict[str, object], name: str, *, where: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not value:
        raise DataError(f"{where}: {name} is {value!r}; text is expected")
    return value


def _path(entry: dict[str, object], name: str, *, where: str) -> str:
    path = PurePosixPath(_text(entry, name, where=where))
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"{where}: {name} is {str(path)!r}; a path below the category folder is expected")
    return path.as_posix()
