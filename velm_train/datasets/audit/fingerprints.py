"""Image files in, fingerprints out: a grey thumbnail and a few mean colours, from one decode, kept in the index."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from velm_train.core.errors import DataError
from velm_train.core.images import read_reduced_rgb
from velm_train.core.progress import Advance
from velm_train.datasets.file_index import FileIndex

SIDE = 64
"""Cells along each side of a thumbnail, whatever the image's shape."""

COLOUR_SIDE = 4
"""Cells along each side of the grid of mean colours."""

_KIND = "fingerprint 1"
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green and blue in the grey value (ITU-R BT.601)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fingerprints:
    """What is known about the look of the files that could be decoded.

    Attributes:
        paths: the files, in the order of the arrays.
        failures: file -> why it could not be decoded.
    """

    paths: tuple[Path, ...]
    thumbnails: UInt8[np.ndarray, "images 64 64"]
    colours: UInt8[np.ndarray, "images 4 4 3"]
    failures: dict[Path, DataError]


def read_fingerprints(paths: Sequence[Path], *, index: FileIndex, advance: Advance) -> Fingerprints:
    """Decodes every file once, or remembers what an earlier run saw.

    Args:
        paths: image files, each once.
        index: keeps the fingerprints.
        advance: receives the number of finished files.
    """
    facts = index.facts(paths, kind=_KIND, compute=_fingerprint, advance=advance)
    failures: dict[Path, DataError] = {}
    read: list[Path] = []
    values: list[bytes] = []
    for path, fact in zip(paths, facts, strict=True):
        if isinstance(fact, DataError):
            failures[path] = fact
        else:
            read.append(path)
            values.append(fact)
    table = np.frombuffer(b"".join(values), dtype=np.uint8).reshape(len(read), SIDE**2 + 3 * COLOUR_SIDE**2)
    return Fingerprints(
        paths=tuple(read),
        thumbnails=table[:, : SIDE**2].reshape(-1, SIDE, SIDE),
        colours=table[:, SIDE**2 :].reshape(-1, COLOUR_SIDE, COLOUR_SIDE, 3),
        failures=failures,
    )


def _fingerprint(path: Path) -> bytes:
    reduced = read_reduced_rgb(path, size_hw=(SIDE, SIDE)).astype(np.float32)
    grey = np.rint(reduced @ _LUMA).astype(np.uint8)
    cell = SIDE // COLOUR_SIDE
    colours = reduced.reshape(COLOUR_SIDE, cell, COLOUR_SIDE, cell, 3).mean(axis=(1, 3))
    return bytes(grey.tobytes() + np.rint(colours).astype(np.uint8).tobytes())
