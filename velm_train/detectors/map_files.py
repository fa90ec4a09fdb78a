"""A folder of anomaly maps goes in; its files by name, and single maps as float32 arrays, come out."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from velm_train.core.errors import DataError
from velm_train.core.shapes import AnomalyMap

MAP_SUFFIXES = (".npy", ".tiff", ".tif", ".png")

_INTEGER_RANGES = {"L": 255, "I;16": 65535, "I;16B": 65535, "I;16L": 65535}
"""Pillow's modes of one channel, and the value that becomes 1."""


def list_maps(folder: Path) -> dict[str, list[Path]]:
    """Returns the map files of a folder and the folders in it: relative name without suffix -> files, sorted.

    Raises:
        DataError: if there is none.
    """
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in MAP_SUFFIXES and path.is_file():
            files.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
    if not files:
        raise DataError(f"{folder} holds no map; put files with suffix {', '.join(MAP_SUFFIXES)} there")
    return files


def file_facts(folder: Path, paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Returns relative name, size in bytes and time of the last change of every file, to tell whether one changed."""
    facts = [(path, path.stat()) for path in paths]
    return [(path.relative_to(folder).as_posix(), stat.st_size, stat.st_mtime_ns) for path, stat in facts]


def read_map(path: Path) -> AnomalyMap:
    """Reads one map; integers are divided by the range of their type, never by their own maximum.

    Raises:
        DataError: naming the file, if it is damaged, has not one channel, or holds values that are not finite.
    """
    try:
        values = _read_array(path) if path.suffix.lower() == ".npy" else _read_picture(path)
    except (OSError, ValueError, EOFError, SyntaxError, UnidentifiedImageError) as error:
        raise DataError(f"map {path} cannot be read ({error}); write it again") from error
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "fiub":
        raise DataError(f"map {path} holds {values.dtype} {values.shape}; write numbers in rows and columns")
    anomaly_map: AnomalyMap = values.astype(np.float32)
    if not np.isfinite(anomaly_map).all():
        raise DataError(f"map {path} holds values that are not finite; write it again")
    return anomaly_map


def _read_array(path: Path) -> np.ndarray:
    values = np.load(path, allow_pickle=False)
    if not isinstance(values, np.ndarray):
        raise ValueError("an archive of several arrays")
    return values


def _read_picture(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        if picture.mode == "F":
            return np.asarray(picture)
        if picture.mode not in _INTEGER_RANGES:
            raise ValueError(f"mode {picture.mode} is no map; one channel of 8 or 16 bits or of floats is")
        return np.asarray(picture).astype(np.float32) / _INTEGER_RANGES[picture.mode]
