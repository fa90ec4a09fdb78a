"""A run of our PatchCore goes in; seconds by stage, memory, and growth with images and bank come out."""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from patchcore_systems import LAYERS, TimmBackbone, make_network, make_picture

from velm_train.core.seeding import generator
from velm_train.detectors import patch_features, patchcore
from velm_train.detectors.neighbours import MemoryBank
from velm_train.detectors.patchcore import PatchCore
from velm_train.detectors.settings import PatchCoreSettings

MEASURED = (
    (TimmBackbone, "features", "network"),
    (patch_features, "resize_batch", "resize"),
    (patchcore, "project", "read back and project"),
    (patchcore, "greedy_coreset", "coreset"),
    (MemoryBank, "nearest", "nearest neighbours"),
    (MemoryBank, "neighbourhood_weight", "weight"),
)
"""Functions of ours whose seconds are shown apart."""


@contextlib.contextmanager
def timed(owner: object, name: str, title: str, spent: dict[str, float]) -> Iterator[None]:
    """Adds up the seconds spent in a function while the block runs."""
    original = getattr(owner, name)

    def measured(*args: object, **kwargs: object) -> object:
        started = time.perf_counter()
        result = original(*args, **kwargs)
        spent[title] = spent.get(title, 0.0) + time.perf_counter() - started
        return result

    setattr(owner, name, measured)
    try:
        yield
    finally:
        setattr(owner, name, original)


@contextlib.contextmanager
def zeros_counted() -> Iterator[None]:
    """Lets ours average patches with zeros beyond the image's edge while the block runs, as anomalib does."""
    original = torch.nn.functional.avg_pool2d

    def padded(x: torch.Tensor, size: int, *, stride: int, padding: int, count_include_pad: bool) -> torch.Tensor:
        del count_include_pad
        return original(x, size, stride=stride, padding=padding, count_include_pad=True)

    torch.nn.functional.avg_pool2d = padded
    try:
        yield
    finally:
        torch.nn.functional.avg_pool2d = original


def memory_mib(kind: str) -> float:
    """Returns the resident memory of this process, now (VmRSS) or at its peak (VmHWM), as Linux counts it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{kind}:"))


class Strips:
    """Any number of small pictures cut from one surface when they are asked for; they need no memory."""

    def __init__(self, count: int, *, size_hw: tuple[int, int]) -> None:
        self._count, (self._height, self._width) = count, size_hw
        self._surface = make_picture(0, defective=False, size_hw=(1024, 1024))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> np.ndarray:
        row, column = generator(0, "strip", str(index)).integers(0, 1024 - max(self._height, self._width), 2)
        return self._surface[row : row + self._height, column : column + self._width]


def growth(backbone: str) -> dict[str, list[dict[str, float]]]:
    """Returns the cost of our fit by images with a bank of 4000, and by bank with 1000 images."""
    size_hw = (64, 96)
    found: dict[str, list[dict[str, float]]] = {"images": [], "bank": []}
    runs = [("images", count, 4000) for count in (200, 1000, 5000)]
    runs += [("bank", 1000, bank) for bank in (1000, 4000, 16000)]
    network = TimmBackbone(make_network(backbone), layers=LAYERS)
    for kind, count, bank in runs:
        detector = PatchCore(
            network,
            PatchCoreSettings(layers=LAYERS, input_hw=size_hw, coreset_fraction=1.0, max_patches=bank),
            device=torch.device("cpu"),
            batch_size=32,
        )
        names = [str(number) for number in range(count)]
        spent: dict[str, float] = {}
        with contextlib.ExitStack() as stack:
            for owner, name, title in MEASURED:
                stack.enter_context(timed(owner, name, title, spent))
            Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
            started = time.perf_counter()
            detector.fit(Strips(count, size_hw=size_hw), image_ids=names, group_ids=names)
            total = time.perf_counter() - started
        found[kind].append({"images": count, "bank": bank, **spent, "total": total, "peak MiB": memory_mib("VmHWM")})
        print(f"  {found[kind][-1]}", file=sys.stderr, flush=True)
    return found


def exponent(rows: Sequence[dict[str, float]], *, of: str, against: str) -> float:
    """Returns the slope of the straight line through the logarithms."""
    points = np.log([[row[against], row[of]] for row in rows])
    return float(np.polyfit(points[:, 0], points[:, 1], 1)[0])
