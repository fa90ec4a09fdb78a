"""Predictions go in and come out of predictions.jsonl: a header line, then one JSON row an image.

While a run lasts, rows are appended to `<name>.partial`; the file takes its name only when complete.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from velm_train.core.artifacts import write_atomic
from velm_train.core.errors import ArtifactError, ResourceError
from velm_train.core.records import Prediction

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
_KIND = "velm_train predictions"
_HEADER = json.dumps({"kind": _KIND, "schema_version": SCHEMA_VERSION})


@dataclass(frozen=True, kw_only=True, slots=True)
class PartialPredictions:
    """What an interrupted run left.

    Attributes:
        rows: the complete rows, in file order.
        torn_line: True if the last line was cut short; it is not among the rows.
        num_bytes: length of the file up to the end of its last complete row.
    """

    rows: tuple[Prediction, ...]
    torn_line: bool
    num_bytes: int


def write_predictions(predictions: Sequence[Prediction], path: Path) -> None:
    """Writes all rows at once, atomically.

    Raises:
        ValueError: if a number is not finite.
        ResourceError: if the file cannot be written.
    """
    write_atomic(path, "\n".join([_HEADER, *(_line(row) for row in predictions)]) + "\n")


def read_predictions(path: Path) -> list[Prediction]:
    """Reads a finished file.

    Raises:
        ArtifactError: if it is absent, of another schema version, or holds a line that cannot be read.
    """
    partial = read_partial(path)
    if partial.torn_line:
        raise ArtifactError(f"{path}: the last line is cut short; the file was not finished, make it again")
    return list(partial.rows)


def read_partial(path: Path) -> PartialPredictions:
    """Reads what is there; a last line without its line end is dropped and reported, never half-read.

    Raises:
        ArtifactError: if the file is absent, of another schema version, or damaged before its last line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from error
    num_bytes = content.rfind(b"\n") + 1
    lines = content[:num_bytes].decode().splitlines()
    if lines:
        _check_header(path, lines[0])
    rows = tuple(_read_line(path, number, line) for number, line in enumerate(lines[1:], start=2))
    torn_line = num_bytes < len(content)
    if torn_line:
        logger.warning("%s: dropped a last line that was cut short; its image is done again", path)
    return PartialPredictions(rows=rows, torn_line=torn_line, num_bytes=num_bytes)


class PredictionWriter:
    """Appends rows to `<name>.partial`, so that a killed run loses at most the row being written.

    with PredictionWriter(path) as writer:
        done = {row.image_id for row in writer.resumed}
        ...
        writer.append(row)
    writer.finish()
    """

    def __init__(self, path: Path) -> None:
        """Remembers where the finished file will lie; nothing is written before the context is entered."""
        self.path = path
        self.partial_path = path.with_name(path.name + ".partial")
        self.resumed: tuple[Prediction, ...] = ()
        self._stream: TextIO | None = None

    def __enter__(self) -> "PredictionWriter":
        """Opens the partial file behind its last complete row.

        Raises:
            ArtifactError: if a partial file is damaged or of another schema version.
            ResourceError: if the folder cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            num_bytes = self._resume() if self.partial_path.exists() else 0
            self._stream = self.partial_path.open("a", encoding="utf-8")
            self._stream.truncate(num_bytes)
        except OSError as error:
            raise ResourceError(f"cannot write {self.partial_path}: {error.strerror}; check the folder") from error
        if num_bytes == 0:
            self._write(_HEADER)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the file and keeps it, whether or not something went wrong."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def append(self, row: Prediction) -> None:
        """Writes one row and hands it to the operating system at once.

        Raises:
            ValueError: if a number is not finite.
        """
        self._write(_line(row))

    def finish(self) -> None:
        """Gives the complete file its name; call it after the context is left."""
        assert self._stream is None, "finish() inside the context"
        self.partial_path.replace(self.path)

    def _resume(self) -> int:
        partial = read_partial(self.partial_path)
        self.resumed = partial.rows
        return partial.num_bytes

    def _write(self, line: str) -> None:
        assert self._stream is not None, "append() outside the context"
        self._stream.write(line + "\n")
        self._stream.flush()


def _line(row: Prediction) -> str:
    return json.dumps(row.to_json(), allow_nan=False)


def _read_line(path: Path, number: int, line: str) -> Prediction:
    try:
        row: dict[str, Any] = json.loads(line)
        return Prediction.from_json(row)
    except (ValueError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{path} line {number} cannot be read ({error}); remove the file and make it again"
        ) from error


def _check_header(path: Path, line: str) -> None:
    try:
        header = json.loads(line)
    except json.JSONDecodeError as error:
        raise ArtifactError(f"{path}: the first line is no header ({error}); make the file again") from error
    if header != {"kind": _KIND, "schema_version": SCHEMA_VERSION}:
        raise ArtifactError(f"{path}: header {header}, expected {_HEADER}; make the file again with this version")
