"""Figures of `task=score` that no scoreboard holds go in and come out of JSON files with a schema version."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from velm_train.core.artifacts import write_atomic
from velm_train.core.benchmarks import MmadScores, VisaDrDetectionScores, VisaDrReasoningScores
from velm_train.core.errors import ArtifactError, DataError
from velm_train.core.plain import read_record
from velm_train.core.published import PublishedScores

SCHEMA_VERSION = 1

Record = TypeVar("Record")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredFile:
    """What was scored, and what a reader of the figures must not miss.

    Attributes:
        name: file name without its folder.
        sha256: of its bytes.
        file_format: how it was read.
        notes: sentences.
    """

    name: str
    sha256: str
    file_format: str
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedRow:
    """One system under the evaluation released with VELM."""

    name: str
    scores: PublishedScores


@dataclass(frozen=True, kw_only=True, slots=True)
class NamingScores:
    """Content of published.json, beside the scoreboard in results.json."""

    scored: ScoredFile
    rows: tuple[PublishedRow, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class MmadResults:
    """Content of results.json for answers to MMAD."""

    scored: ScoredFile
    scores: MmadScores


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionResults:
    """Content of results.json for yes-or-no answers to VisA-D&R."""

    scored: ScoredFile
    scores: VisaDrDetectionScores


@dataclass(frozen=True, kw_only=True, slots=True)
class ReasoningResults:
    """Content of results.json for answers in words to VisA-D&R."""

    scored: ScoredFile
    scores: VisaDrReasoningScores


def write_scores(record: object, path: Path) -> None:
    """Writes a record of figures atomically, with its kind and schema version.

    Raises:
        ValueError: if a number is not finite.
        ResourceError: if the file cannot be written.
    """
    assert dataclasses.is_dataclass(record), record
    assert not isinstance(record, type), record
    head = {"kind": type(record).__name__, "schema_version": SCHEMA_VERSION}
    write_atomic(path, json.dumps(head | dataclasses.asdict(record), indent=1, allow_nan=False) + "\n")


def read_scores(kind: type[Record], path: Path) -> Record:
    """Reads what `write_scores` wrote.

    Raises:
        ArtifactError: if it is absent, not JSON, of another kind or schema version, or lacks a field.
    """
    try:
        body: Any = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error
    wanted = {"kind": kind.__name__, "schema_version": SCHEMA_VERSION}
    head = {name: body.pop(name, None) for name in wanted} if isinstance(body, dict) else {}
    if head != wanted:
        raise ArtifactError(f"{path} has {head}, expected {wanted}; score the file again")
    try:
        return read_record(kind, body)
    except DataError as error:
        raise ArtifactError(f"{path}: {error}; score the file again") from error
