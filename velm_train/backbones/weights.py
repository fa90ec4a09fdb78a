"""A hub id or a model in; local weight files and their hash out. Nothing is downloaded."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from velm_train.core.errors import AssetError


def find_in_hub_cache(repo_id: str, names: Sequence[str], *, backbone: str) -> Path:
    """Returns the first of these files of a hub repository that lies in the local hub cache.

    Args:
        repo_id: as the hub spells it, `<owner>/<name>`.
        names: files of which one is enough, the best first.
        backbone: what errors call it.

    Raises:
        AssetError: saying how to put one of them there.
    """
    import huggingface_hub  # noqa: PLC0415 - slow to import, and most runs need nothing from the hub
    from huggingface_hub.errors import HFValidationError  # noqa: PLC0415

    cache = Path(huggingface_hub.constants.HF_HUB_CACHE)
    try:
        found = [huggingface_hub.try_to_load_from_cache(repo_id, name, cache_dir=cache) for name in names]
    except HFValidationError as error:
        raise AssetError(f"backbone {backbone}: {repo_id!r} is neither a folder nor a hub id ({error})") from error
    paths = [Path(path) for path in found if isinstance(path, str)]
    if not paths:
        raise AssetError(
            f"backbone {backbone}: {' or '.join(names)} of {repo_id} is not in the hub cache {cache}; with network "
            f"run `hf download {repo_id}` once, or copy that cache folder from a machine that has it"
        )
    return paths[0]


def hash_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """Returns the SHA-256 of all names, types, shapes and values, whatever the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}\x1f{tensor.dtype}\x1f{tuple(tensor.shape)}\x1f".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
