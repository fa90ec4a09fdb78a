"""Facts that readers need about the pixels of masks: paths in, one small fact a file out; no pixels are kept."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from velm_train.core.images import read_gt_mask, read_mask_values, read_size_hw

Fact = TypeVar("Fact")

_MAX_THREADS = 8


def values_of_masks(paths: Sequence[Path]) -> dict[Path, frozenset[int]]:
    """Returns the values above zero that occur in every mask; none in a blank one.

    Raises:
        DataError: naming the first mask that cannot be read or has several channels.
    """
    return _facts(paths, lambda path: read_mask_values(path) - {0})


def masks_with_defect(paths: Sequence[Path]) -> dict[Path, bool]:
    """Returns for every mask whether it marks any defect.

    Raises:
        DataError: naming the first mask that cannot be read.
    """
    return _facts(paths, lambda path: bool(read_gt_mask(path, size_hw=read_size_hw(path)).any()))


def _facts(paths: Sequence[Path], compute: Callable[[Path], Fact]) -> dict[Path, Fact]:
    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        return dict(zip(paths, pool.map(compute, paths), strict=True))
