"""A model's trained parts in, one adapter folder out, and back again bit by bit.

adapter_config.json + adapter_model.safetensors     LoRA, as PEFT reads it
<part>.safetensors                                  projector, look_twice
tokenizer.json, processor_config.json, ...          what turns text and pictures into the model's input
manifest.json                                       base, family, settings, versions, the hash of every file
"""

import importlib.metadata
import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import save
from torch import nn

from velm_train import __version__
from velm_train.core.artifacts import write_atomic
from velm_train.core.errors import ArtifactError, ResourceError
from velm_train.models.pissa import load_portable, portable_config, portable_tensors
from velm_train.models.weight_files import (
    MANIFEST_NAME,
    TENSOR_SUFFIX,
    check_tensors,
    describe_files,
    plain_tensors,
    read_manifest,
    read_tensors,
    require_files,
)

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 2
LORA_NAME = "adapter_model.safetensors"
LORA_CONFIG_NAME = "adapter_config.json"
_LIBRARIES = ("torch", "transformers", "peft", "safetensors")

WriteProcessor = Callable[[Path], object]
"""Writes tokenizer and processor files into a folder that exists."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterDescription:
    """What a saved adapter and the model that loads it must agree on.

    Attributes:
        family: model family, such as "embedded".
        identity: hash of the frozen base.
        settings: what shapes the trained parts, JSON values.
    """

    family: str
    identity: str
    settings: dict[str, Any]


def save_adapter(
    folder: Path,
    *,
    description: AdapterDescription,
    language_model: PeftModel,
    parts: Mapping[str, nn.Module],
    write_processor: WriteProcessor | None = None,
) -> None:
    """Writes all trained weights, the manifest last: a folder without one is not finished.

    Args:
        folder: made if absent; files of an earlier save are replaced.
        description: family, identity and settings.
        language_model: with LoRA.
        parts: other trained modules by the name of their file.
        write_processor: puts tokenizer and processor beside the weights; None for a model without.

    Raises:
        ResourceError: if the folder cannot be written.
    """
    clear_folder(folder)
    peft_config = json.dumps(portable_config(language_model), indent=1, sort_keys=True, default=sorted)
    write_atomic(folder / LORA_CONFIG_NAME, peft_config)
    for name, tensors in _own_tensors(language_model, parts).items():
        write_atomic(folder / name, save(tensors, metadata={"format": "pt"}))
    if write_processor is not None:
        write_files(folder, write_processor)
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "base": {"id": _base_id(language_model), "identity": description.identity},
        "family": description.family,
        "settings": description.settings,
        "versions": library_versions(),
        "files": describe_files(folder),
    }
    write_atomic(folder / MANIFEST_NAME, json.dumps(manifest, indent=1, sort_keys=True))


def load_adapter(
    folder: Path, *, description: AdapterDescription, language_model: PeftModel, parts: Mapping[str, nn.Module]
) -> None:
    """Reads what `save_adapter` wrote; nothing is changed unless everything fits.

    Args:
        folder: a finished adapter folder.
        description: of the model that receives the weights.
        language_model: with LoRA of the same settings.
        parts: modules that receive the other weights.

    Raises:
        ArtifactError: naming what is missing, damaged, or different from this model.
    """
    manifest = verify_adapter(folder)
    _check_base(folder, manifest, description, base_id=_base_id(language_model))
    _check_settings(folder, manifest, description)
    own = _own_tensors(language_model, parts)
    stored_names = {name for name in manifest["files"] if name.endswith(TENSOR_SUFFIX)}
    if stored_names != set(own):
        raise ArtifactError(f"adapter {folder} holds {sorted(stored_names)}, this model expects {sorted(own)}")
    stored = {name: read_tensors(folder / name) for name in own}
    for name, tensors in stored.items():
        check_tensors(folder / name, tensors, own[name])
    load_portable(language_model, stored[LORA_NAME])
    for name, part in parts.items():
        part.load_state_dict(stored[f"{name}{TENSOR_SUFFIX}"], strict=True)
    logger.info("adapter weights read from %s", folder)


def verify_adapter(folder: Path) -> dict[str, Any]:
    """Checks that an adapter folder is finished and whole, byte by byte, without a model; returns its manifest.

    Raises:
        ArtifactError: naming what is missing, damaged or of another version.
    """
    manifest = read_manifest(folder, kind="adapter", schema_version=SCHEMA_VERSION, remedy="train it again")
    require_files(folder, manifest, kind="adapter")
    return manifest


def clear_folder(folder: Path) -> None:
    """Makes a folder, or deletes what an earlier save left in it, the manifest first.

    Raises:
        ResourceError: if the folder cannot be written.
    """
    manifest_path = folder / MANIFEST_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not manifest_path.exists():
            return
        named = json.loads(manifest_path.read_text())["files"]
        manifest_path.unlink()
        for name in named:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise ResourceError(f"cannot write {folder}: {error.strerror}; check that the folder is writable") from error
    except (json.JSONDecodeError, KeyError) as error:
        raise ArtifactError(f"{manifest_path} is not of an earlier save ({error}); choose another folder") from error


def write_files(folder: Path, write: Callable[[Path], object]) -> None:
    """Lets a library write into a folder; weights get the permissions of any other new file.

    Raises:
        ResourceError: if the folder cannot be written.
    """
    try:
        write(folder)
        for weights in folder.glob(f"*{TENSOR_SUFFIX}"):  # safetensors leaves them to their owner alone
            weights.chmod(0o666 & ~_umask())
    except OSError as error:
        raise ResourceError(f"cannot write {folder}: {error}; check space and permissions") from error


def _umask() -> int:
    """Returns the permissions that new files go without; reading them means setting them."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def library_versions() -> dict[str, str]:
    """Returns what wrote the weights, by name."""
    return {"velm_train": __version__} | {library: importlib.metadata.version(library) for library in _LIBRARIES}


def _base_id(language_model: PeftModel) -> str:
    return str(language_model.peft_config["default"].base_model_name_or_path)


def _own_tensors(language_model: PeftModel, parts: Mapping[str, nn.Module]) -> dict[str, dict[str, torch.Tensor]]:
    states = {f"{name}{TENSOR_SUFFIX}": part.state_dict() for name, part in parts.items()}
    states[LORA_NAME] = portable_tensors(language_model)
    return {name: plain_tensors(state) for name, state in states.items()}


def _check_base(folder: Path, manifest: Mapping[str, Any], description: AdapterDescription, *, base_id: str) -> None:
    got = (manifest["family"], manifest["base"]["id"], manifest["base"]["identity"])
    allowed = (description.family, base_id, description.identity)
    if (got[0], got[2]) != (allowed[0], allowed[2]):
        raise ArtifactError(
            f"adapter {folder}: identity of its base is {_base(got)}, allowed is that of this model, {_base(allowed)}; "
            "build the model with the weights, number type and picture sizes that the adapter was trained on"
        )


def _base(base: tuple[str, str, str]) -> str:
    family, base_id, identity = base
    return f"{family} {base_id!r} ({identity[:12]})"


def _check_settings(folder: Path, manifest: Mapping[str, Any], description: AdapterDescription) -> None:
    got, expected = manifest["settings"], json.loads(json.dumps(description.settings))
    names = sorted(name for name in got.keys() | expected.keys() if got.get(name) != expected.get(name))
    if names:
        differences = ", ".join(f"{name} is {got.get(name)} there, {expected.get(name)} here" for name in names)
        raise ArtifactError(
            f"adapter {folder} was trained with other settings: {differences}; build the model with the adapter's"
        )
