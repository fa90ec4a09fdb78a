"""What tests of readers share: small pictures that are not square, and the way from found images to records."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from velm_train.core.progress import SilentProgress
from velm_train.datasets.file_index import FileIndex
from velm_train.datasets.found import Found
from velm_train.datasets.indexing import Indexed, OnBadFile, index_images


@pytest.fixture
def put() -> Callable[..., Path]:
    """Writes a picture of 6 x 9 pixels: all of one value, or the values given."""

    def write(path: Path, values: int | np.ndarray = 90) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((6, 9, 3), values, dtype=np.uint8) if isinstance(values, int) else values
        Image.fromarray(pixels).save(path)
        return path

    return write


@pytest.fixture
def mask_of() -> Callable[..., np.ndarray]:
    """Makes a mask of 6 x 9 pixels: zero, but for one pixel of each value given."""

    def make(*values: int) -> np.ndarray:
        gt_mask = np.zeros((6, 9), dtype=np.uint8)
        gt_mask[2, : len(values)] = values
        return gt_mask

    return make


@pytest.fixture
def indexed() -> Callable[..., Indexed]:
    """Indexes found images without a cache."""

    def read(found: Found, on_bad_file: OnBadFile = "refuse") -> Indexed:
        index = FileIndex(None, num_threads=1)
        return index_images(found, dataset="set", index=index, on_bad_file=on_bad_file, progress=SilentProgress())

    return read
