"""A folder of weights in, proof that it is whole and fits out: manifest, hashes, tensor names and shapes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from velm_train.core.errors import ArtifactError
from velm_train.core.hashing import sha256_file

MANIFEST_NAME = "manifest.json"
TENSOR_SUFFIX = ".safetensors"


def plain_tensors(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns a state as safetensors writes it: on the CPU, contiguous, without gradient."""
    return {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}


def describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Returns the hash of every file below a folder, manifest and hidden files left out, and the shapes of tensors."""
    described = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != MANIFEST_NAME and not path.name.startswith("."):
            described[name] = {"sha256": sha256_file(path)} | _shapes(path)
    return described


def _shapes(path: Path) -> dict[str, Any]:
    if path.suffix != TENSOR_SUFFIX:
        return {}
    with safe_open(path, framework="pt") as tensors:
        return {"shapes": {key: list(tensors.get_slice(key).get_shape()) for key in sorted(tensors.keys())}}


def read_manifest(folder: Path, *, kind: str, schema_version: int, remedy: str) -> dict[str, Any]:
    """Reads the manifest of a finished folder.

    Args:
        folder: of weights.
        kind: what messages call the folder, such as "adapter".
        schema_version: the one this code writes.
        remedy: what to do about another one.

    Raises:
        ArtifactError: if it is missing, cannot be read, or has another schema version.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST_NAME).read_text())
        version = manifest["schema_version"]
    except (OSError, json.JSONDecodeError, KeyError) as error:
        raise ArtifactError(
            f"{kind} {folder}: {MANIFEST_NAME} cannot be read ({error}); name a folder written by a finished save"
        ) from error
    if version != schema_version:
        raise ArtifactError(f"{kind} {folder}: schema version {version} instead of {schema_version}; {remedy}")
    return manifest


def require_files(folder: Path, manifest: Mapping[str, Any], *, kind: str) -> None:
    """Checks that every file of the manifest is there, byte by byte.

    Raises:
        ArtifactError: naming the first file that is missing or damaged.
    """
    for name, expected in sorted(manifest["files"].items()):
        path = folder / name
        if not path.is_file():
            raise ArtifactError(f"{kind} {folder}: {name} is missing; copy the whole folder")
        if sha256_file(path) != expected["sha256"]:
            raise ArtifactError(
                f"{kind} {folder}: {name} is damaged (its hash differs from the manifest); copy the folder again"
            )


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Reads one safetensors file.

    Raises:
        ArtifactError: if it is none.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); copy it again") from error


def check_tensors(path: Path, stored: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> None:
    """Checks that a file holds exactly the tensors of a module.

    Args:
        path: of the file, for the message.
        stored: its tensors.
        own: those of the module.

    Raises:
        ArtifactError: naming tensors that are missing, left over, or of another shape.
    """
    missing, unexpected = sorted(own.keys() - stored.keys()), sorted(stored.keys() - own.keys())
    if missing or unexpected:
        raise ArtifactError(
            f"{path}: {len(missing)} tensors missing {missing[:3]}, {len(unexpected)} unexpected {unexpected[:3]}; "
            "use the folder with a model of the same settings"
        )
    for key, tensor in stored.items():
        if tensor.shape != own[key].shape:
            raise ArtifactError(f"{path}: {key} has shape {list(tensor.shape)}, this model {list(own[key].shape)}")
