"""A model's weights, processor and tap in, hashes of what its evidence and its answers depend on out."""

import hashlib
import json
from dataclasses import asdict, is_dataclass
from pathlib import Path

import torch
from torch import nn

from velm_train.core.hashing import sha256_json
from velm_train.models.families.writer import ViewWriter

ENCODING_VERSION = 2
"""Raised when the same weights and pictures give other evidence."""

_SAMPLED_BYTES = 2**20


def model_identity(writer: ViewWriter, *, weights: str, dtype: torch.dtype) -> tuple[str, str]:
    """Returns the identities of the evidence and of the whole frozen model.

    Args:
        writer: holds processor and tap.
        weights: hash of the model's own weights.
        dtype: in which the tower computes.
    """
    assert is_dataclass(writer.tap), "a tap is a frozen dataclass, so that all its settings count"
    images = json.loads(writer.processor.image_processor.to_json_string())
    evidence = sha256_json(
        {
            "version": ENCODING_VERSION,
            "weights": weights,
            "tap": asdict(writer.tap),
            "images": images,
            "dtype": str(dtype),
        }
    )
    return evidence, sha256_json({"evidence": evidence, "chat_template": writer.tokenizer.chat_template})


def files_identity(folder: Path) -> str:
    """Returns a hash of a checkpoint's weight files: names, sizes, first and last mebibyte.

    Whole files would take minutes at 15 GB; the head of a safetensors file holds names, shapes and offsets.
    """
    return sha256_json({path.name: _ends(path) for path in sorted(folder.glob("*.safetensors"))})


def tensors_identity(module: nn.Module) -> str:
    """Returns a hash of all weights of a small module."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _ends(path: Path) -> list[object]:
    size = path.stat().st_size
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(_SAMPLED_BYTES))
        file.seek(max(0, size - _SAMPLED_BYTES))
        digest.update(file.read())
    return [size, digest.hexdigest()]
