"""Named arrays in, one safetensors file out."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

WEIGHTS_NAME = "model.safetensors"
"""The file name that transformers looks for."""


def write_weights(tensors: Mapping[str, np.ndarray], folder: Path) -> None:
    """Writes `model.safetensors` as `from_pretrained` expects it.

    safetensors copies an array's memory as it lies, whatever its strides say; a transposed view would come
    back scrambled, without an error. So every array is laid out row by row first.
    """
    ordered = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    save_file(ordered, folder / WEIGHTS_NAME, metadata={"format": "pt"})
