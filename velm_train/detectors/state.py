"""Text and arrays of a fitted detector go in; arrays that any array file can hold, and their hash, come out."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from velm_train.core.errors import DataError


def text_to_array(text: str) -> np.ndarray:
    """Returns the text's UTF-8 bytes as uint8, because array files such as safetensors hold no text."""
    return np.frombuffer(text.encode(), dtype=np.uint8).copy()


def array_to_text(array: np.ndarray) -> str:
    """Returns the text that `text_to_array` was given."""
    return array.astype(np.uint8).tobytes().decode()


def hash_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """Returns the SHA-256 of all names, types, shapes and values, whatever the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}\x1f{array.dtype.str}\x1f{array.shape}\x1f".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def require_images(images: Sequence[object], *, image_ids: Sequence[str], group_ids: Sequence[str]) -> None:
    """Checks what every detector is fitted on.

    Raises:
        DataError: if there is no image, ids are missing or repeated, or groups are missing.
    """
    num_images = len(images)
    if num_images == 0 or num_images != len(image_ids) or len(set(image_ids)) != num_images:
        raise DataError(
            f"the detector got {num_images} images with {len(set(image_ids))} distinct ids out of {len(image_ids)}; "
            "give at least one good image and one distinct id for each"
        )
    if len(group_ids) != num_images:
        raise DataError(f"the detector got {num_images} images but {len(group_ids)} groups; give one for each")


def group_numbers(group_ids: Sequence[str]) -> Int[np.ndarray, " I"]:
    """Returns a number for each image's group, equal for images of one group, in order of first appearance."""
    numbers = {group: number for number, group in enumerate(dict.fromkeys(group_ids))}
    return np.array([numbers[group] for group in group_ids], dtype=np.int64)
