"""Inspections go in and come out of inspections.jsonl; earlier rows are remembered by the picture's bytes."""

import dataclasses
import json
import logging
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

from velm_train.core.artifacts import write_atomic
from velm_train.core.errors import ArtifactError, ResourceError
from velm_train.core.inspection import Inspection, InspectionSummary

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
_KIND = "velm_train inspections"
_HEADER = json.dumps({"kind": _KIND, "schema_version": SCHEMA_VERSION})


def write_inspections(rows: Sequence[Inspection], path: Path) -> None:
    """Writes a header line and one line a picture, atomically.

    Raises:
        ResourceError: if the file cannot be written.
    """
    write_atomic(path, "\n".join([_HEADER, *(_line(row) for row in rows)]) + "\n")


def read_inspections(path: Path) -> list[Inspection]:
    """Reads a finished file.

    Raises:
        ArtifactError: if it is absent, of another schema version, cut short, or holds a line that cannot be read.
    """
    rows, torn = _read(path)
    if torn:
        raise ArtifactError(f"{path}: the last line is cut short; make the file again")
    return rows


def write_summary(summary: InspectionSummary, path: Path) -> None:
    """Writes summary.json atomically.

    Raises:
        ResourceError: if the file cannot be written.
    """
    expected = summary.expected_time
    body = {
        "schema_version": SCHEMA_VERSION,
        "num_pictures": summary.num_pictures,
        **dataclasses.asdict(summary),
        "expected_seconds": None if expected is None else expected.seconds,
    }
    write_atomic(path, json.dumps(body, indent=1, allow_nan=False) + "\n")


class InspectionMemory:
    """Rows that were made by one system, kept as they are made, so that no picture is inspected twice.

    Every command appends to a file of its own, so that several can work at once; a row that a killed command cut short
    is left out. Unreadable pictures are not remembered: the file may be mended.
    """

    def __init__(self, folder: Path) -> None:
        """Remembers the folder; it is made when the first row is kept."""
        self._folder = folder
        self._stream: TextIO | None = None

    def __enter__(self) -> "InspectionMemory":
        """Opens nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes this command's file and keeps it."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def known(self) -> dict[tuple[str, str], Inspection]:
        """Returns (sha256, category) -> row.

        Raises:
            ArtifactError: if a file is of another schema version, or damaged before its last line.
        """
        rows: dict[tuple[str, str], Inspection] = {}
        for path in sorted(self._folder.glob("rows-*.jsonl")):
            found, torn = _read(path)
            if torn:
                logger.warning("%s: dropped a last line that was cut short", path)
            rows |= {(row.sha256, row.category): row for row in found}
        return rows

    def keep(self, rows: Iterable[Inspection]) -> None:
        """Appends rows and hands them to the operating system at once.

        Raises:
            ResourceError: if the file cannot be written.
        """
        lines = [_line(row) for row in rows if row.verdict != "unreadable"]
        if not lines:
            return
        try:
            if self._stream is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                path = self._folder / f"rows-{time.time_ns()}-{os.getpid()}.jsonl"
                self._stream = path.open("x", encoding="utf-8")
                lines = [_HEADER, *lines]
            self._stream.write("\n".join(lines) + "\n")
            self._stream.flush()
        except OSError as error:
            raise ResourceError(f"cannot write to {self._folder}: {error.strerror}; set paths.artifacts") from error


def _line(row: Inspection) -> str:
    return json.dumps(row.to_json(), allow_nan=False)


def _read(path: Path) -> tuple[list[Inspection], bool]:
    """Returns the complete rows of a file, and whether its last line was cut short."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from error
    end = content.rfind(b"\n") + 1
    try:
        lines = content[:end].decode().splitlines()
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path} is damaged ({error}); remove the file") from error
    if lines and lines[0] != _HEADER:
        raise ArtifactError(f"{path}: first line {lines[0][:80]!r}, expected {_HEADER}; make the file again")
    return [_row(path, number, line) for number, line in enumerate(lines[1:], start=2)], end < len(content)


def _row(path: Path, number: int, line: str) -> Inspection:
    try:
        return Inspection.from_json(json.loads(line))
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{path} line {number} cannot be read ({error}); remove the file") from error
