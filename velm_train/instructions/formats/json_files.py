"""JSON that others wrote: a file in, checked values out, or an error that names the file and the record."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from velm_train.core.artifacts import write_atomic
from velm_train.core.errors import DataError

_LFS_HEADER = b"version https://git-lfs.github.com/spec/"
_BETWEEN = re.compile(r"[\s,:]*")


def is_lfs_pointer(path: Path) -> bool:
    """True if the file is the few lines that Git LFS leaves in place of a file that was not downloaded.

    Source: Git LFS specification, "The Pointer".
    """
    with path.open("rb") as stream:
        return stream.read(len(_LFS_HEADER)) == _LFS_HEADER


def read_json(path: Path) -> object:
    """Reads a JSON file.

    Raises:
        DataError: if it is absent, a Git LFS pointer, cut or damaged, or gives one key twice.
    """
    try:
        payload = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if payload.startswith(_LFS_HEADER):
        raise DataError(f"{path} is a Git LFS pointer, not the file itself; run `git lfs pull` where it was cloned")
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error}); get the file again") from error
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _without_repeats(pairs, path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is damaged or cut at {_where_damaged(text)} ({error}); get the file again") from error


def _without_repeats(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path}: the key {repeated!r} is given twice in one record; keep one of them")
    return found


def _where_damaged(text: str) -> str:
    """Names the first record of a list, or of an object of records, that cannot be parsed."""
    decoder = json.JSONDecoder()
    start = _skip(text, 0)
    keyed = text[start : start + 1] == "{"
    if not keyed and text[start : start + 1] != "[":
        return "its beginning"
    position, number, name = start + 1, 0, ""
    while True:
        number += 1
        try:
            if keyed:
                name, position = decoder.raw_decode(text, _skip(text, position))
            _, position = decoder.raw_decode(text, _skip(text, position))
        except json.JSONDecodeError:
            return f"record {number} ({name!r})" if keyed else f"record {number}"


def _skip(text: str, position: int) -> int:
    found = _BETWEEN.match(text, position)
    assert found is not None
    return found.end()


def read_records(path: Path) -> list[dict[str, Any]]:
    """Reads a JSON file that is a list of objects.

    Raises:
        DataError: as `read_json`, or if it is anything else.
    """
    rows = read_json(path)
    if not isinstance(rows, list):
        raise DataError(f"{path} holds one {kind_of(rows)}; a list of records is expected")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(f"{path}: record {number} is {kind_of(row)}; an object is expected")
    return rows


def write_records(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Writes a JSON list atomically, one record a line.

    Raises:
        ResourceError: if the file cannot be written.
    """
    write_atomic(path, "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


def kind_of(value: object) -> str:
    """Returns what JSON calls the kind of a value."""
    names = {dict: "object", list: "list", str: "text", bool: "true/false", int: "number", float: "number"}
    return names[type(value)] if type(value) in names else "null"


def text_of(row: Mapping[str, Any], key: str, *, where: str) -> str:
    """Returns a field that must be text with something in it.

    Raises:
        DataError: if it is missing, empty or of another kind.
    """
    value = _field(row, key, where=where)
    if not isinstance(value, str) or not value:
        raise DataError(f"{where}: {key!r} is {value!r}; text is expected")
    return value


def texts_of(row: Mapping[str, Any], key: str, *, where: str) -> tuple[str, ...]:
    """Returns a field that must be a list of texts.

    Raises:
        DataError: if it is missing or of another kind.
    """
    value = _field(row, key, where=where)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise DataError(f"{where}: {key!r} is {value!r}; a list of texts is expected")
    return tuple(value)


def objects_of(row: Mapping[str, Any], key: str, *, where: str) -> list[dict[str, Any]]:
    """Returns a field that must be a list of objects.

    Raises:
        DataError: if it is missing or of another kind.
    """
    value = _field(row, key, where=where)
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise DataError(f"{where}: {key!r} is {value!r}; a list of objects is expected")
    return value


def object_of(row: Mapping[str, Any], key: str, *, where: str) -> dict[str, Any]:
    """Returns a field that must be an object.

    Raises:
        DataError: if it is missing or of another kind.
    """
    value = _field(row, key, where=where)
    if not isinstance(value, dict):
        raise DataError(f"{where}: {key!r} is {value!r}; an object is expected")
    return value


def others_of(row: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """Returns the fields that are not among the known ones, so that none is lost."""
    named = set(known)
    return {key: value for key, value in row.items() if key not in named}


def _field(row: Mapping[str, Any], key: str, *, where: str) -> object:
    if key not in row:
        raise DataError(f"{where}: {key!r} is missing; it has {', '.join(map(repr, row)) or 'no field at all'}")
    return row[key]
