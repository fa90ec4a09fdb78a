"""The figure that a sweep optimises: what a run leaves of it, in objective.json, and how it is read back."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from velm_train.core.artifacts import write_atomic
from velm_train.core.errors import ArtifactError, DataError
from velm_train.core.plain import read_record

OBJECTIVES = ("all", "seen", "unseen")
"""End-to-end balanced recall over all test images, or over those of one group; the more the better."""

OBJECTIVE_NAME = "objective.json"
VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """What a run of a sweep came to.

    Attributes:
        name: one of OBJECTIVES.
        value: the figure, 0 to 1; None if the run was pruned, or its test images do not define it.
        state: pruned if the run was ended early because others had done better by then.
    """

    version: int
    name: str
    value: float | None
    state: Literal["finished", "pruned"]


def write_objective(folder: Path, objective: Objective) -> None:
    """Writes objective.json into a run folder."""
    write_atomic(folder / OBJECTIVE_NAME, json.dumps(dataclasses.asdict(objective), indent=1) + "\n")


def read_objective(folder: Path) -> Objective | None:
    """Returns what a run came to, or None if it has not ended.

    Raises:
        ArtifactError: if the file is damaged.
    """
    path = folder / OBJECTIVE_NAME
    if not path.is_file():
        return None
    try:
        return read_record(Objective, json.loads(path.read_text()))
    except (OSError, json.JSONDecodeError, DataError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}; run the job again") from error
