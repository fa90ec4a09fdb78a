"""What a sweep by Optuna tried and what came of it: written by the sweeper, read by `task=compare` without Optuna."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from velm_train.core.artifacts import write_atomic
from velm_train.core.errors import ArtifactError, DataError
from velm_train.core.plain import read_record

STUDY_NAME = "study.json"
VERSION = 1

TrialState = Literal["open", "finished", "pruned", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyTrial:
    """One job of the sweep.

    Attributes:
        number: of the trial, and name of its folder.
        state: open if it has not ended, so that the same command goes on with it.
        value: the objective, 0 to 1, or None.
        settings: what was drawn, as it is written on the command line.
        reason: why it failed, or "".
        last_step: optimiser step of the last loss that was reported for pruning, or None.
    """

    number: int
    state: TrialState
    value: float | None
    settings: dict[str, str]
    reason: str
    last_step: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyFacts:
    """A whole sweep.

    Attributes:
        objective: the figure that was optimised.
        trials: in the order they were drawn.
        importances: setting -> share of the objective's variance that goes back to it, adding up to 1; empty with
            few trials.
    """

    version: int
    objective: str
    sampler: str
    pruner: str
    seed: int
    trials: tuple[StudyTrial, ...]
    importances: dict[str, float]

    @property
    def best(self) -> StudyTrial | None:
        """The finished trial of the highest objective, the first of equals; None without any."""
        finished = [trial for trial in self.trials if trial.state == "finished" and trial.value is not None]
        return max(finished, key=lambda trial: (trial.value, -trial.number), default=None)


def write_study(folder: Path, facts: StudyFacts) -> None:
    """Writes study.json into a sweep folder."""
    write_atomic(folder / STUDY_NAME, json.dumps(dataclasses.asdict(facts), indent=1) + "\n")


def read_study(folder: Path) -> StudyFacts | None:
    """Returns what a sweep by Optuna tried, or None if the folder is of no such sweep.

    Raises:
        ArtifactError: if the file is damaged.
    """
    path = folder / STUDY_NAME
    if not path.is_file():
        return None
    try:
        return read_record(StudyFacts, json.loads(path.read_text()))
    except (OSError, json.JSONDecodeError, DataError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}; the same sweep command writes it again") from error
