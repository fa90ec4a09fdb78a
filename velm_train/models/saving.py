"""A model's trained parts in, one adapter folder out, and back again bit by bit.

adapter_config.json + adapter_model.safetensors     LoRA, as PEFT reads it
<part>.safetensors                                  projector, look_twice
manifest.json                                       family, identity of the frozen base, settings, hashes
"""

import importlib.metadata
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save
from torch import nn

from velm_train.core.artifacts import write_atomic
from velm_train.core.errors import ArtifactError
from velm_train.core.hashing import sha256_file

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"
LORA_NAME = "adapter_model.safetensors"
_LIBRARIES = ("torch", "transformers", "peft", "safetensors")


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
    folder: Path, *, description: AdapterDescription, language_model: PeftModel, parts: Mapping[str, nn.Module]
) -> None:
    """Writes all trained weights, the manifest last: a folder without one is not finished.

    Args:
        folder: made if absent; files of an earlier save are replaced.
        description: family, identity and settings.
        language_model: with LoRA.
        parts: other trained modules by the name of their file.

    Raises:
        ResourceError: if the folder cannot be written.
    """
    (folder / MANIFEST_NAME).unlink(missing_ok=True)
    peft_config = language_model.peft_config["default"].to_dict() | {"inference_mode": True}
    write_atomic(folder / "adapter_config.json", json.dumps(peft_config, indent=1, sort_keys=True, default=sorted))
    files = {}
    for name, tensors in _own_tensors(language_model, parts).items():
        write_atomic(folder / name, save(tensors, metadata={"format": "pt"}))
        shapes = {key: list(tensor.shape) for key, tensor in sorted(tensors.items())}
        files[name] = {"sha256": sha256_file(folder / name), "shapes": shapes}
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "family": description.family,
        "identity": description.identity,
        "settings": description.settings,
        "versions": {library: importlib.metadata.version(library) for library in _LIBRARIES},
        "files": files,
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
    manifest = _read_manifest(folder)
    _check_description(folder, manifest, description)
    own = _own_tensors(language_model, parts)
    if set(manifest["files"]) != set(own):
        raise ArtifactError(f"adapter {folder} holds {sorted(manifest['files'])}, this model expects {sorted(own)}")
    stored = {name: _read_tensors(folder, name, manifest["files"][name]["sha256"]) for name in own}
    for name, tensors in stored.items():
        _check_tensors(folder / name, tensors, own[name])
    set_peft_model_state_dict(language_model, stored[LORA_NAME])
    for name, part in parts.items():
        part.load_state_dict(stored[f"{name}.safetensors"], strict=True)
    logger.info("adapter weights read from %s", folder)


def _own_tensors(language_model: PeftModel, parts: Mapping[str, nn.Module]) -> dict[str, dict[str, torch.Tensor]]:
    lora = get_peft_model_state_dict(language_model, save_embedding_layers=False)
    states = {LORA_NAME: lora} | {f"{name}.safetensors": part.state_dict() for name, part in parts.items()}
    return {
        name: {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}
        for name, state in states.items()
    }


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST_NAME).read_text())
        version = manifest["schema_version"]
    except (OSError, json.JSONDecodeError, KeyError) as error:
        raise ArtifactError(
            f"adapter {folder}: {MANIFEST_NAME} cannot be read ({error}); name a folder written by a finished save"
        ) from error
    if version != SCHEMA_VERSION:
        raise ArtifactError(f"adapter {folder}: schema version {version} instead of {SCHEMA_VERSION}; train it again")
    return manifest


def _check_description(folder: Path, manifest: dict[str, Any], description: AdapterDescription) -> None:
    for field in ("family", "identity"):
        got, expected = manifest[field], getattr(description, field)
        if got != expected:
            raise ArtifactError(
                f"adapter {folder}: {field} of its base is {got!r}, this model's is {expected!r}; build the model with "
                "the weights and input sizes that the adapter was trained on"
            )
    got, expected = manifest["settings"], json.loads(json.dumps(description.settings))
    names = sorted(name for name in got.keys() | expected.keys() if got.get(name) != expected.get(name))
    if names:
        differences = ", ".join(f"{name} is {got.get(name)} there, {expected.get(name)} here" for name in names)
        raise ArtifactError(f"adapter {folder} was trained with other settings: {differences}")


def _read_tensors(folder: Path, name: str, sha256: str) -> dict[str, torch.Tensor]:
    path = folder / name
    if not path.is_file():
        raise ArtifactError(f"adapter {folder}: {name} is missing; copy the whole folder")
    if sha256_file(path) != sha256:
        raise ArtifactError(f"adapter {folder}: {name} is damaged (its hash differs from the manifest)")
    return load_file(path)


def _check_tensors(path: Path, stored: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> None:
    missing, unexpected = sorted(own.keys() - stored.keys()), sorted(stored.keys() - own.keys())
    if missing or unexpected:
        raise ArtifactError(
            f"{path}: {len(missing)} tensors missing {missing[:3]}, {len(unexpected)} unexpected {unexpected[:3]}"
        )
    for key, tensor in stored.items():
        if tensor.shape != own[key].shape:
            raise ArtifactError(f"{path}: {key} has shape {list(tensor.shape)}, this model {list(own[key].shape)}")
