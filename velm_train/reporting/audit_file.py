"""An audit report goes in and comes out of audit.json."""

import json
from pathlib import Path

from velm_train.core.artifacts import write_atomic
from velm_train.core.audit import AuditReport
from velm_train.core.errors import ArtifactError, DataError

SCHEMA_VERSION = 1


def write_audit(report: AuditReport, path: Path) -> None:
    """Writes the report atomically.

    Raises:
        ResourceError: if the file cannot be written.
    """
    body = {"schema_version": SCHEMA_VERSION, **report.to_json()}
    write_atomic(path, json.dumps(body, indent=1, allow_nan=False) + "\n")


def read_audit(path: Path) -> AuditReport:
    """Reads what `write_audit` wrote.

    Raises:
        ArtifactError: if it is absent, not JSON, of another schema version, or lacks a field.
    """
    remedy = "run the audit again"
    try:
        body = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); {remedy}") from error
    version = body.pop("schema_version", None) if isinstance(body, dict) else None
    if version != SCHEMA_VERSION:
        raise ArtifactError(f"{path}: schema version {version}, expected {SCHEMA_VERSION}; {remedy}")
    try:
        return AuditReport.from_json(body)
    except DataError as error:
        raise ArtifactError(f"{path}: {error}; {remedy}") from error
