"""Instruction samples on disk: a sequence in, one JSON-lines file out, and back to equal samples.

The first line is a header with schema version and number of samples, so that a cut file is noticed.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from velm_train.core.appearance import AS_IT_IS
from velm_train.core.artifacts import write_atomic
from velm_train.core.errors import ArtifactError, DataError
from velm_train.core.records import InstructionSample, Message, Option, View

SCHEMA_VERSION = 1
_CONTENT = "instruction_samples"
_HEADER_FIELDS = {"content", "schema_version", "num_samples"}


def write_samples(samples: Sequence[InstructionSample], path: Path) -> None:
    """Writes the samples atomically, one a line, after a header line.

    Raises:
        ResourceError: if the file cannot be written.
    """
    header = {"content": _CONTENT, "schema_version": SCHEMA_VERSION, "num_samples": len(samples)}
    rows = [header, *(sample_to_json(sample) for sample in samples)]
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))


def read_samples(path: Path) -> tuple[InstructionSample, ...]:
    """Reads what `write_samples` wrote.

    Raises:
        ArtifactError: if the file cannot be read, is cut or damaged, or has another schema version.
    """
    remedy = "delete it and build the instructions again"
    try:
        lines = path.read_text().splitlines()
        header = json.loads(lines[0]) if lines else None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactError(f"instruction samples {path} cannot be read ({error}); {remedy}") from error
    if not isinstance(header, dict) or set(header) != _HEADER_FIELDS or header["content"] != _CONTENT:
        raise ArtifactError(f"{path} is not a file of instruction samples; {remedy}")
    if header["schema_version"] != SCHEMA_VERSION:
        raise ArtifactError(f"{path}: schema version {header['schema_version']} instead of {SCHEMA_VERSION}; {remedy}")
    if header["num_samples"] != len(lines) - 1:
        raise ArtifactError(f"{path}: {len(lines) - 1} samples instead of {header['num_samples']}; {remedy}")
    samples: list[InstructionSample] = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            samples.append(sample_from_json(json.loads(line)))
        except (json.JSONDecodeError, DataError, KeyError, TypeError) as error:
            raise ArtifactError(f"{path}: line {number} is damaged ({error}); {remedy}") from error
    return tuple(samples)


def sample_to_json(sample: InstructionSample) -> dict[str, Any]:
    """Returns a plain dictionary that `sample_from_json` reads back."""
    assert all(view.appearance == AS_IT_IS for view in sample.views), "appearances are drawn anew at each visit"
    row = dataclasses.asdict(sample)
    for view in row["views"]:
        del view["appearance"]
        view["image_path"] = view["image_path"].as_posix()
        view["contour"] = view["contour"].tolist()
    return row


def sample_from_json(row: dict[str, Any]) -> InstructionSample:
    """Reads a row written by `sample_to_json`.

    Raises:
        DataError: if the content contradicts itself.
        KeyError: if a field of a view is missing.
        TypeError: if another field is missing or unknown.
    """
    parsed = {
        "views": tuple(_view_from_json(view) for view in row["views"]),
        "messages": tuple(Message(**message) for message in row["messages"]),
        "options": tuple(Option(**option) for option in row["options"]),
    }
    return InstructionSample(**{**row, **parsed})


def _view_from_json(row: dict[str, Any]) -> View:
    x0, y0, x1, y1 = row["box_xyxy"]
    contour = np.asarray(row["contour"], dtype=np.int32).reshape(-1, 2)
    return View(**{**row, "image_path": Path(row["image_path"]), "box_xyxy": (x0, y0, x1, y1), "contour": contour})
