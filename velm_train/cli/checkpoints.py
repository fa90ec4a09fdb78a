"""The settings about checkpoints in; where a training begins, what is kept of it, and what its key says of it, out."""

import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, cast

from velm_train.cli.workshop import Workshop
from velm_train.config import Config
from velm_train.core.artifacts import StageKey, write_atomic
from velm_train.core.errors import ArtifactError
from velm_train.core.hashing import canonical_json, sha256_json
from velm_train.core.pruning import TrialPruned
from velm_train.training.checkpoint_files import (
    FOLDER_NAME,
    Checkpoint,
    Origin,
    complete_ones,
    examine,
    marker_of,
)
from velm_train.training.starting import Keeping, Start, differing_settings, refusal

TRAINING_NAME = "training.json"
"""Left in a run folder: which training stage it runs."""

PACKAGES = ("torch", "pytorch-lightning", "transformers", "peft", "velm_train")
_RANKS = ".ranks"
_INPUT_NAMES = {"material": "training samples", "model": "model weights", "alignment": "aligned weights"}


def find_start(config: Config) -> Start:
    """Returns what `ckpt_path` means; a path is looked up now, so that a wrong one is refused before any work.

    Raises:
        ArtifactError: if there is no complete checkpoint at the path.
    """
    if config.ckpt_path in {"auto", "none", "best"}:
        return cast("Literal['auto', 'none', 'best']", config.ckpt_path)
    path = Path(config.ckpt_path).expanduser()
    if not path.exists():
        raise ArtifactError(
            f"ckpt_path={path} is not there; allowed: auto, none, best, a step_*.ckpt, a folder of them, or the folder "
            "of a run"
        )
    if path.is_file() or path.suffix == ".ckpt" or marker_of(path).exists():
        found = examine(path)
        if isinstance(found, str):
            raise ArtifactError(
                f"ckpt_path={path} is no complete checkpoint: {found}; copy it again with its .json, or name another"
            )
        return found
    for folder in (path, path / FOLDER_NAME, *_stages_of_run(path, config)):
        complete = complete_ones(folder)
        if complete:
            return complete[0]
    raise ArtifactError(
        f"ckpt_path={path} holds no complete checkpoint; a finished training keeps them with "
        "callbacks.keep_checkpoints=true alone"
    )


def agreed_start(shop: Workshop) -> Start:
    """Returns what `find_start` does on the first process of the run, on each of them."""
    if shop.config.ckpt_path in {"auto", "none", "best"}:
        return find_start(shop.config)

    def found_here() -> str:
        start = find_start(shop.config)
        assert isinstance(start, Checkpoint)
        return str(start.path.resolve())

    path = shop.meeting.agree("ckpt_path", found_here)
    start = examine(Path(path))
    if isinstance(start, str):
        raise ArtifactError(f"ckpt_path={path} is no complete checkpoint any more, or not on this machine: {start}")
    return start


def _stages_of_run(folder: Path, config: Config) -> Iterator[Path]:
    """Yields where the training of a run keeps its checkpoints, finished or not."""
    try:
        told = json.loads((folder / TRAINING_NAME).read_text())
        roots = (Path(told["artifacts"]), Path(config.paths.artifacts))
        for root in roots:
            stage = root.expanduser() / told["stage"]
            yield stage / told["key"] / FOLDER_NAME
            yield stage / f".partial-{told['key']}" / FOLDER_NAME
    except (OSError, ValueError, KeyError, TypeError):
        return


def key_from_start(key: StageKey, start: Start) -> StageKey:
    """Returns the key of a stage that begins at `start`: its own, unless weights of another stage come in.

    Raises:
        ArtifactError: if other settings made the checkpoint, naming those that differ.
    """
    if not isinstance(start, Checkpoint) or start.origin.stage == key.key:
        return key
    differences = differing_settings(start.origin, origin_of(key, stage=""))
    if differences:
        raise ArtifactError(refusal(start, differences))
    return dataclasses.replace(key, settings=key.settings | {"begun_from": start.digest})


def origin_of(key: StageKey, *, stage: str) -> Origin:
    """Returns what a checkpoint says of how it was made, in the words of the settings.

    Args:
        key: of the stage; what its start added is left out.
        stage: the key as a word.
    """
    plain = json.loads(canonical_json({"inputs": key.inputs, "settings": key.settings}))
    inputs = {_INPUT_NAMES.get(name, name): value for name, value in plain["inputs"].items()}
    settings = {_setting_name(name): value for name, value in _leaves(plain["settings"])}
    left_out = {"begun_from", "trainer.use_best"}
    told = {name: value for name, value in settings.items() if name not in left_out}
    return Origin(
        stage=stage,
        settings={"code version of the stage": key.version} | inputs | told,
        versions={name: version for name in PACKAGES if (version := _version(name)) is not None},
    )


def _leaves(group: Mapping[str, Any], *, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in group.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, prefix=f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _setting_name(name: str) -> str:
    """Returns the word of the command line for a place in the key."""
    if name == "training.seed":
        return "seed"
    head, _, rate = name.partition(".learning_rates.")
    if rate:
        return f"trainer.{rate}_learning_rate"
    name = head.replace("training.optimisation.kind", "training.optimiser")
    return name.replace("training.optimisation.", "training.").replace("training.", "trainer.", 1)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # a checkout that is not installed
        return None


def keeping_of(shop: Workshop, key: StageKey, *, start: Start, validated: bool) -> Keeping:
    """Returns which checkpoints a training stage keeps, and where it begins.

    Args:
        shop: settings.
        key: of the stage, its start included.
        start: what is asked for.
        validated: whether the stage measures a validation loss.
    """
    callbacks = shop.config.callbacks
    return Keeping(
        last=callbacks.keep_last,
        best=callbacks.keep_best and validated,
        use_best=callbacks.use_best and validated,
        start=start,
        origin=origin_of(key, stage=key.key),
        run=run_of(shop.run_folder),
    )


def run_of(folder: Path | None) -> str:
    """Returns what names a run on every rank and after every requeue: the hash of its folder's place."""
    if folder is None:
        return ""
    parts = folder.resolve().parts
    shared = parts[: parts.index(_RANKS)] if _RANKS in parts else parts
    return sha256_json(list(shared))[:16]


def note_stage(shop: Workshop, key: StageKey) -> None:
    """Leaves in the run folder which stage it trains, so that `ckpt_path=RUN` finds its checkpoints."""
    if shop.run_folder is not None and shop.rank.is_first:
        told = {"version": 1, "artifacts": shop.config.paths.artifacts, "stage": key.stage, "key": key.key}
        write_atomic(shop.run_folder / TRAINING_NAME, json.dumps(told, indent=1) + "\n")


def clear_checkpoints(shop: Workshop, folder: Path) -> None:
    """Removes the checkpoints of a finished stage, whose weights take their place, unless they are to be kept."""
    if shop.rank.is_first and not shop.config.callbacks.keep_checkpoints:
        shutil.rmtree(folder / FOLDER_NAME, ignore_errors=True)


@contextmanager
def checkpoints_gone_if_pruned(shop: Workshop, folder: Path) -> Iterator[None]:
    """Removes the checkpoints of a training that is pruned in a `with` block: nothing ever goes on from them."""
    try:
        yield
    except TrialPruned:
        clear_checkpoints(shop, folder)
        raise
