"""What is asked for and the checkpoints there are go in; where training begins comes out, or why it cannot.

    auto   the newest checkpoint of the stage, the first step without one
    none   the first step
    best   the checkpoint of the lowest validation loss
    one    any other checkpoint that the same settings made

A run that goes on in its own folder, as after preemption, has begun as it was asked to: it takes the newest.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from velm_train.core.artifacts import write_atomic
from velm_train.core.errors import ArtifactError
from velm_train.training.checkpoint_files import Checkpoint, Origin, best_of, complete_ones

logger = logging.getLogger(__name__)

BEGUN_NAME = "begun.json"
Start = Literal["auto", "none", "best"] | Checkpoint


@dataclass(frozen=True, kw_only=True, slots=True)
class Keeping:
    """Which checkpoints are kept, and where training begins.

    Attributes:
        last: how many of the newest stay, 1 or more.
        best: True to keep the one of the lowest validation loss as well.
        use_best: True to leave its weights in the model at the end, and not the last ones; only with `best`.
        start: where to begin.
        origin: written into every checkpoint, and compared with that of the one to begin from.
        run: names the run; the same name again goes on. Empty for a run that never does.
    """

    last: int = 2
    best: bool = False
    use_best: bool = False
    start: Start = "auto"
    origin: Origin = field(default_factory=Origin)
    run: str = ""


def choose_start(folder: Path, keeping: Keeping, *, max_steps: int) -> Checkpoint | None:
    """Returns the checkpoint to begin from, or None for the first step; nothing is written.

    Args:
        folder: of the stage's checkpoints.
        keeping: what is asked for.
        max_steps: of the whole training.

    Raises:
        ArtifactError: if there is no checkpoint as asked for, or other settings made it.
    """
    own = complete_ones(folder)
    found = _asked_for(folder, keeping, own)
    if found is None:
        return None
    differences = differing_settings(found.origin, keeping.origin)
    if differences:
        raise ArtifactError(refusal(found, differences))
    _say_other_versions(found, keeping.origin)
    best = best_of(own) if keeping.use_best and found.step >= max_steps else None
    # A finished training never starts, and so never takes the best weights: its end is made again, bit by bit.
    return found if best is None else best


def _asked_for(folder: Path, keeping: Keeping, own: Sequence[Checkpoint]) -> Checkpoint | None:
    newest = own[0] if own else None
    if keeping.start == "auto" or (newest is not None and _has_begun(folder, run=keeping.run)):
        return newest
    if keeping.start == "none":
        return None
    if isinstance(keeping.start, Checkpoint):
        other_stage = keeping.start.origin.stage != keeping.origin.stage
        return newest if newest is not None and other_stage else keeping.start
    best = best_of(own)
    if best is None:
        raise ArtifactError(
            f"ckpt_path=best: {folder} holds no checkpoint with a validation loss; begin with ckpt_path=auto"
        )
    return best


def note_begun(folder: Path, *, run: str) -> None:
    """Remembers which run has begun as it was asked to."""
    if run:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / BEGUN_NAME, json.dumps({"run": run}) + "\n")


def _has_begun(folder: Path, *, run: str) -> bool:
    try:
        known = json.loads((folder / BEGUN_NAME).read_text())
    except (OSError, ValueError):
        return False
    return bool(run) and known == {"run": run}


def differing_settings(there: Origin, here: Origin) -> list[str]:
    """Returns "setting: value there -> value here" of every setting that differs.

    Args:
        there: of a checkpoint.
        here: of this training.
    """
    names = sorted({*there.settings, *here.settings})
    return [
        f"{name}: {_shown(there.settings, name)} there -> {_shown(here.settings, name)} here"
        for name in names
        if _shown(there.settings, name) != _shown(here.settings, name)
    ]


def refusal(checkpoint: Checkpoint, differences: Iterable[str]) -> str:
    """Says why a checkpoint cannot be begun from, and what to do."""
    return (
        f"{checkpoint.path} was made by other settings: {'; '.join(differences)}. Give these settings their value "
        "there to go on with it, or leave ckpt_path=auto to train with those of here"
    )


def _shown(settings: Mapping[str, Any], name: str) -> str:
    if name not in settings:
        return "not set"
    value = settings[name]
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _say_other_versions(checkpoint: Checkpoint, here: Origin) -> None:
    there = checkpoint.origin.versions
    names = sorted(name for name in there if name in here.versions and there[name] != here.versions[name])
    if names:
        differing = ", ".join(f"{name} {there[name]} -> {here.versions[name]}" for name in names)
        logger.warning("%s was written with other versions: %s; rounding may differ", checkpoint.path, differing)
