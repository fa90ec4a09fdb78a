"""Content hashes: the same inputs give the same 64 characters on every machine."""

import dataclasses
import hashlib
import json
from pathlib import Path

_CHUNK_BYTES = 1 << 20


def sha256_file(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes as 64 hexadecimal characters."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no canonical JSON form")


def canonical_json(value: object) -> str:
    """Returns JSON with sorted keys and no spaces, equal for equal values.

    Raises:
        TypeError: if a value is neither JSON, a dataclass, a path nor a set.
        ValueError: if a number is not finite.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain)


def sha256_json(value: object) -> str:
    """Returns the SHA-256 of a value's canonical JSON as 64 hexadecimal characters."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
