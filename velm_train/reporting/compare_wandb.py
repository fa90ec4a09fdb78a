"""The folder of one W&B run goes in; its settings, summary and history come out, without an account or a network.

W&B writes a run into one file `run-<id>.wandb`: a header, then records in the log format of LevelDB (blocks of 32 KiB;
a record is one fragment, or a first, middle ones and a last), each fragment with its CRC-32, each record a protobuf
message. The library up to 0.20 had a reader for it; the one installed here has the messages alone, which are used.
"""

import json
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

from velm_train.core.errors import ArtifactError

FILE_PATTERN = "run-*.wandb"
PRIVATE_KEY = "_wandb"

_FILE_HEADER = struct.Struct("<4sHB")
_FILE_START = (b":W&B", 0xBEE1, 0)
_FRAGMENT_HEADER = struct.Struct("<IHB")
_BLOCK_BYTES = 32768
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


@dataclass(frozen=True, kw_only=True, slots=True)
class WandbRun:
    """What W&B knows about a run.

    Attributes:
        run_id: W&B's own.
        settings: nested, as they were given to W&B.
        summary: name -> last value, as logged or set.
        history: one mapping a logged step, in order.
        finished: False if the run's end was never written.
    """

    run_id: str
    settings: dict[str, Any]
    summary: dict[str, Any]
    history: tuple[dict[str, Any], ...]
    finished: bool


def is_wandb_folder(folder: Path) -> bool:
    """True if the folder is that of one W&B run."""
    return folder.is_dir() and next(folder.glob(FILE_PATTERN), None) is not None


def read_wandb_folder(folder: Path) -> WandbRun:
    """Reads the one W&B file of a folder.

    Raises:
        ArtifactError: if there is not exactly one, or it is not as W&B writes it.
    """
    files = sorted(folder.glob(FILE_PATTERN))
    if len(files) != 1:
        raise ArtifactError(f"{folder} holds {len(files)} files {FILE_PATTERN}; the folder of a W&B run has one")
    return read_wandb_file(files[0])


def joined(parts: Sequence[WandbRun]) -> WandbRun:
    """Returns one run whose parts were logged by a process each, as W&B shows it once they are synced.

    Args:
        parts: of one run id, oldest first, at least one.
    """
    summary: dict[str, Any] = {}
    for part in parts:
        summary |= part.summary
    return WandbRun(
        run_id=parts[-1].run_id,
        settings=parts[-1].settings,
        summary=summary,
        history=tuple(row for part in parts for row in part.history),
        finished=parts[-1].finished,
    )


def read_wandb_file(path: Path) -> WandbRun:
    """Reads a W&B file; one that was cut short gives what is there, as an unfinished run.

    Raises:
        ArtifactError: if it cannot be read, is of another format or version, or is damaged.
    """
    run_id, finished = "", False
    settings: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    for payload in _records(path):
        record = Record.FromString(payload)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run_id = record.run.run_id
            _update(settings, record.run.config.update)
        elif kind == "config":
            _update(settings, record.config.update)
        elif kind == "summary":
            _update(summary, record.summary.update)
        elif kind == "history":
            values: dict[str, Any] = {}
            _update(values, record.history.item)
            history.append(values)
            summary |= values
        finished = finished or kind == "exit"
    if not run_id:
        raise ArtifactError(f"{path} holds no W&B run; copy the file again")
    for key in [key for key in settings if key.partition("/")[0] == PRIVATE_KEY]:
        del settings[key]
    return WandbRun(run_id=run_id, settings=settings, summary=summary, history=tuple(history), finished=finished)


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Returns the entries that are finite numbers."""
    kept = {
        name: value for name, value in values.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }
    return {name: float(value) for name, value in kept.items() if abs(value) < float("inf")}


def _update(values: dict[str, Any], items: Any) -> None:  # noqa: ANN401 - a repeated field of a generated message
    """Adds what a record sets; nested keys are joined by a slash, as W&B shows them."""
    for item in items:
        key = item.key or "/".join(item.nested_key)
        values[key] = json.loads(item.value_json)


def _records(path: Path) -> Iterator[bytes]:
    """Yields the payload of every complete record."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) < _FILE_HEADER.size or _FILE_HEADER.unpack_from(content) != _FILE_START:
        raise ArtifactError(f"{path} is no W&B file of the version that this program reads; copy it again")
    begun: bytes | None = None  # may be empty: a first fragment may have no more room than for its header
    for kind, data in _fragments(content, path):
        if (kind in (_FULL, _FIRST)) != (begun is None):
            raise ArtifactError(f"{path} is damaged: a record has no beginning or no end; copy it again")
        begun = data if begun is None else begun + data
        if kind in (_FULL, _LAST):
            yield begun
            begun = None


def _fragments(content: bytes, path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields kind and data of every fragment up to the first one that was cut short."""
    position = _FILE_HEADER.size
    while position < len(content):
        left = _BLOCK_BYTES - position % _BLOCK_BYTES
        if left < _FRAGMENT_HEADER.size:  # too little for a header: zeros up to the next block
            position += left
            continue
        if position + _FRAGMENT_HEADER.size > len(content):
            return
        checksum, num_bytes, kind = _FRAGMENT_HEADER.unpack_from(content, position)
        position += _FRAGMENT_HEADER.size
        data = content[position : position + num_bytes]
        if len(data) < num_bytes:
            return
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST) or zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum:
            raise ArtifactError(f"{path} is damaged at byte {position}: its checksum does not fit; copy it again")
        position += num_bytes
        yield kind, data
