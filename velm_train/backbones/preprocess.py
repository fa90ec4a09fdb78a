"""Pictures of any size in, one float batch of one size out: the resize that detectors and models share."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8

from velm_train.core.errors import DataError
from velm_train.core.records import SizeHW
from velm_train.core.shapes import RGBImage


def resize_batch(images: Sequence[UInt8[np.ndarray, "_ _ 3"]], size_hw: SizeHW) -> Float[torch.Tensor, "B 3 H W"]:
    """Resizes each picture to `size_hw` by antialiased bilinear interpolation; the aspect ratio is not kept.

    Args:
        images: RGB pictures, which may differ in size.
        size_hw: target height and width in pixels.

    Returns:
        RGB in 0..1; pictures that already have the size keep their exact values.

    Raises:
        DataError: if there is no picture, or one is empty.
    """
    if not images or any(image.size == 0 for image in images):
        raise DataError(f"resize to {size_hw}: got {[image.shape for image in images]}; every picture needs pixels")
    batch = torch.empty(len(images), 3, *size_hw)
    for image, pixels in zip(images, batch, strict=True):
        pixels.copy_(_resize(image, size_hw)[0])
    return batch


def _resize(image: RGBImage, size_hw: SizeHW) -> torch.Tensor:
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].float() / 255  # (1, 3, H, W)
    if pixels.shape[-2:] == size_hw:
        return pixels
    resized = F.interpolate(pixels, size=size_hw, mode="bilinear", align_corners=False, antialias=True)
    return resized.clamp(0, 1)
