"""Scoreboard, trust in answers, what the report says and manifest go in and come out of results.json."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from velm_train.core.answer_scores import AnswerReport
from velm_train.core.artifacts import write_atomic
from velm_train.core.errors import ArtifactError, DataError
from velm_train.core.language import LanguageRow
from velm_train.core.plain import read_record
from velm_train.core.report_facts import PageFacts
from velm_train.core.scores import Scoreboard
from velm_train.reporting.manifest import Manifest

SCHEMA_VERSION = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """What a finished run says about itself.

    Attributes:
        answers: how far the answers can be trusted; None for rows that somebody else made.
        language: how they change with the words of the questions; empty if that was not tried.
        page: what else report.html says; None for rows that have no report.
    """

    scoreboard: Scoreboard
    manifest: Manifest
    answers: AnswerReport | None = None
    language: tuple[LanguageRow, ...] = ()
    page: PageFacts | None = None


def write_results(results: Results, path: Path) -> None:
    """Writes results.json atomically.

    Raises:
        ValueError: if a number is not finite.
        ResourceError: if the file cannot be written.
    """
    body = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(results)}
    write_atomic(path, json.dumps(body, indent=1, allow_nan=False) + "\n")


def read_results(path: Path) -> Results:
    """Reads results.json.

    Raises:
        ArtifactError: if it is absent, not JSON, of another schema version, or lacks a field.
    """
    try:
        body = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error
    version = body.pop("schema_version", None) if isinstance(body, dict) else None
    if version != SCHEMA_VERSION:
        raise ArtifactError(f"{path}: schema version {version}, expected {SCHEMA_VERSION}; score the run again")
    try:
        return read_record(Results, body)
    except DataError as error:
        raise ArtifactError(f"{path}: {error}; score the run again") from error
