"""A comparison goes in and comes out of comparison.json."""

import json
from pathlib import Path

from velm_train.core.artifacts import write_atomic
from velm_train.core.comparison import Comparison
from velm_train.core.errors import ArtifactError, DataError

SCHEMA_VERSION = 2


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Writes comparison.json atomically.

    Raises:
        ValueError: if a number is not finite.
        ResourceError: if the file cannot be written.
    """
    body = {"schema_version": SCHEMA_VERSION, **comparison.to_json()}
    write_atomic(path, json.dumps(body, indent=1, allow_nan=False) + "\n")


def read_comparison(path: Path) -> Comparison:
    """Reads comparison.json.

    Raises:
        ArtifactError: if it is absent, not JSON, of another schema version, or lacks a field.
    """
    try:
        body = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}; compare the runs again") from error
    version = body.pop("schema_version", None) if isinstance(body, dict) else None
    if version != SCHEMA_VERSION:
        raise ArtifactError(f"{path}: schema version {version}, expected {SCHEMA_VERSION}; compare the runs again")
    try:
        return Comparison.from_json(body)
    except DataError as error:
        raise ArtifactError(f"{path}: {error}; compare the runs again") from error
