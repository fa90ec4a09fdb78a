"""Patch features of many images go into a temporary file batch by batch; any images or patches come out, unchanged."""

import logging
import math
import shutil
import tempfile
from collections.abc import Iterator
from types import TracebackType

import torch
from jaxtyping import Float, Int
from torch import Tensor

from velm_train.core.artifacts import MIN_FREE_BYTES
from velm_train.core.errors import ResourceError

logger = logging.getLogger(__name__)

_VALUE_BYTES = 4


class FeatureFile:
    """Float32 features of images of one grid, exactly as given, in a nameless file that vanishes when it is closed.

    The file lies in the folder for temporary files (the environment's TMPDIR). It is read and written, not mapped, so
    that its pages never count as the program's memory.
    """

    def __init__(self, *, num_images: int) -> None:
        """Makes the empty file; it is known how many images come, so that a full disk is noticed at the first."""
        self._num_images = num_images
        self._num_appended = 0
        self._image_shape = (0, 0)
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> "FeatureFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, values: Float[Tensor, "B P C"]) -> None:
        """Writes the next images behind those written before.

        Raises:
            ResourceError: if the disk has no room for all images.
        """
        if self._num_appended == 0:
            self._image_shape = (values.shape[1], values.shape[2])
            needed_bytes = self._num_images * math.prod(self._image_shape) * _VALUE_BYTES
            _require_free_disk(needed_bytes)
            logger.debug("patch features take %.0f MB of temporary disk", needed_bytes / 1e6)
        assert values.shape[1:] == self._image_shape, (values.shape, self._image_shape)
        self._file.seek(self._num_appended * math.prod(self._image_shape) * _VALUE_BYTES)
        remaining = values.cpu().contiguous().numpy().data.cast("B")
        while remaining:
            remaining = remaining[self._file.write(remaining) :]
        self._num_appended += len(values)

    def blocks(self, num_images: int) -> Iterator[Float[Tensor, "B P C"]]:
        """Yields the features of all images in order, up to `num_images` at a time, on the CPU."""
        for start in range(0, self._num_appended, num_images):
            values = torch.empty(min(num_images, self._num_appended - start), *self._image_shape)
            self._read(values, first_row=start * self._image_shape[0])
            yield values

    def image(self, index: int) -> Float[Tensor, "P C"]:
        """Returns the features of one image, on the CPU."""
        values = torch.empty(self._image_shape)
        self._read(values, first_row=index * self._image_shape[0])
        return values

    def patches(self, rows: Int[Tensor, " M"]) -> Float[Tensor, "M C"]:
        """Returns single patches, counted over all images, in the order asked for, on the CPU."""
        values = torch.empty(len(rows), self._image_shape[1])
        for value, row in zip(values, rows.tolist(), strict=True):
            self._read(value, first_row=row)
        return values

    def _read(self, values: Tensor, *, first_row: int) -> None:
        self._file.seek(first_row * self._image_shape[1] * _VALUE_BYTES)
        remaining = values.numpy().data.cast("B")
        while remaining:
            num_bytes = self._file.readinto(remaining)
            assert num_bytes, "the temporary file is shorter than what was written"
            remaining = remaining[num_bytes:]


def _require_free_disk(needed_bytes: int) -> None:
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < needed_bytes + MIN_FREE_BYTES:
        raise ResourceError(
            f"temporary folder {folder}: {free / 1e6:.0f} MB free, {needed_bytes / 1e6:.0f} MB needed for features "
            f"plus a reserve of {MIN_FREE_BYTES / 1e6:.0f} MB; set TMPDIR to another disk or fit fewer images"
        )
