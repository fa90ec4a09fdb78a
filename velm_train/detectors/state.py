"""Text and arrays of a fitted detector go in; arrays that any array file can hold, and their hash, come out."""

import hashlib
from collections.abc import Mapping

import numpy as np


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
