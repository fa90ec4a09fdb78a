"""A finished checkpoint goes in; a named one with its marker, and of all in a folder the complete ones, come out.

    step_000040.ckpt         what the Trainer wrote: a file, or the folder that a sharding strategy writes
    step_000040.ckpt.json    the marker, written last: step, validation loss, what made it, size and hash of every file

A checkpoint counts if its marker is there and everything is as the marker says; nothing else about a folder is
believed, neither times nor names of other files. What a killed process leaves is therefore passed over, and so is a
copy that has not arrived as a whole.
"""

import json
import logging
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from velm_train.core.artifacts import write_atomic
from velm_train.core.hashing import canonical_json, sha256_file, sha256_json

logger = logging.getLogger(__name__)

FOLDER_NAME = "checkpoints"
MARKER_VERSION = 1
_NAME = re.compile(r"step_(\d{6,})\.ckpt")


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """What made a checkpoint, in plain containers.

    Attributes:
        stage: key of the training stage; empty outside the command line.
        settings: setting -> value, of everything that the weights depend on.
        versions: package -> version; another one may round otherwise.
    """

    stage: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A complete checkpoint.

    Attributes:
        path: of the file or folder.
        step: optimiser steps done.
        validation_loss: measured at that step, or None.
        digest: hash of its files' hashes.
        origin: what made it.
    """

    path: Path
    step: int
    validation_loss: float | None
    digest: str
    origin: Origin


def path_of(folder: Path, *, step: int) -> Path:
    """Returns where the checkpoint of a step lies or will lie."""
    return folder / f"step_{step:06d}.ckpt"


def partial_of(path: Path) -> Path:
    """Returns where a checkpoint is written before it is complete."""
    return path.with_name(f".{path.name}.partial")


def marker_of(path: Path) -> Path:
    """Returns where the marker of a checkpoint lies or will lie."""
    return path.with_name(f"{path.name}.json")


def publish(path: Path, *, step: int, validation_loss: float | None, origin: Origin) -> None:
    """Gives what was written at `partial_of(path)` its name, and then its marker; each survives a loss of power.

    Args:
        path: the checkpoint's name.
        step: optimiser steps done.
        validation_loss: measured at that step, or None.
        origin: what made it.

    Raises:
        OSError: if the folder cannot be written, with what was there before in place.
        ResourceError: if the marker cannot be written.
    """
    partial = partial_of(path)
    for entry in [*sorted(partial.rglob("*")), partial]:
        _to_disk(entry)
    files = _files(partial)
    discard(path)  # of a run that was killed between the name and the marker
    partial.replace(path)
    _to_disk(path.parent)
    marker = {
        "version": MARKER_VERSION,
        "step": step,
        "validation_loss": validation_loss,
        "files": files,
        "origin": asdict(origin),
    }
    write_atomic(marker_of(path), canonical_json(marker) + "\n")
    _to_disk(path.parent)


def examine(path: Path) -> Checkpoint | str:
    """Returns a checkpoint if it is complete, or else what is wrong with it."""
    try:
        marker = json.loads(marker_of(path).read_text())
        if marker["version"] != MARKER_VERSION:
            return f"its marker is of version {marker['version']}, not {MARKER_VERSION}"
        if path.name != path_of(path.parent, step=marker["step"]).name:
            return f"its marker is of step {marker['step']}"
        expected = marker["files"]
        found = _files(path, known=expected)
        if found != expected:
            differing = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
            return f"{Path(path.name, differing[0])} is not as it was written"
        return Checkpoint(
            path=path,
            step=marker["step"],
            validation_loss=marker["validation_loss"],
            digest=sha256_json(expected),
            origin=Origin(**marker["origin"]),
        )
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"its marker cannot be read ({type(error).__name__}: {error})"


def complete_ones(folder: Path) -> list[Checkpoint]:
    """Returns the complete checkpoints of a folder, the newest first; says of every other one why it is passed over."""
    complete = []
    for path in _named(folder):
        found = examine(path)
        if isinstance(found, Checkpoint):
            complete.append(found)
        else:
            logger.warning("checkpoint %s is passed over: %s", path, found)
    return complete


def best_of(checkpoints: Sequence[Checkpoint]) -> Checkpoint | None:
    """Returns that of the lowest validation loss, the older of equal ones; None if none has any."""
    measured = [(one.validation_loss, one.step, one) for one in checkpoints if one.validation_loss is not None]
    return min(measured, key=lambda entry: entry[:2])[2] if measured else None


def discard(path: Path) -> None:
    """Removes a checkpoint, its marker first, so that it never looks complete without being so."""
    marker_of(path).unlink(missing_ok=True)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def discard_later_than(folder: Path, *, step: int) -> None:
    """Removes what lies ahead of a step."""
    for path in _named(folder):
        if _step(path) > step:
            discard(path)


def tidy(folder: Path) -> None:
    """Removes what killed processes left half-written."""
    for path in folder.glob(".step_*.partial"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def keep_only(folder: Path, *, last: int, best: bool) -> None:
    """Removes all but the newest few checkpoints and perhaps the best one; markers are believed here.

    Args:
        folder: of checkpoints.
        last: how many of the newest stay, 1 or more.
        best: True to leave the one of the lowest validation loss as well.
    """
    losses = {path: loss for path in _named(folder) if (loss := _marked_loss(path)) is not None}
    marked = [path for path in _named(folder) if marker_of(path).is_file()]
    kept = {*marked[:last]}
    if best and losses:
        kept.add(min(losses, key=lambda path: (losses[path], _step(path))))
    for path in _named(folder):
        if path not in kept:
            discard(path)


def _marked_loss(path: Path) -> float | None:
    try:
        loss = json.loads(marker_of(path).read_text())["validation_loss"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return loss if isinstance(loss, float) else None


def _named(folder: Path) -> list[Path]:
    """Returns what is named like a checkpoint, that of the most steps first."""
    entries = folder.iterdir() if folder.is_dir() else ()
    return sorted((path for path in entries if _NAME.fullmatch(path.name)), key=_step, reverse=True)


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1])


def _files(path: Path, *, known: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, dict[str, Any]]:
    """Returns size and hash of every file of a checkpoint, by its place in the folder, "." for a single file.

    Args:
        path: of the checkpoint.
        known: what is expected; a file of another size is not hashed.
    """
    places = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    found: dict[str, dict[str, Any]] = {}
    for place in places:
        name, size = place.relative_to(path).as_posix(), place.stat().st_size
        as_expected = known is None or (name in known and known[name]["bytes"] == size)
        found[name] = {"bytes": size, "sha256": sha256_file(place) if as_expected else ""}
    return found


def _to_disk(path: Path) -> None:
    """Waits until a file, or the names in a folder, would survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
