"""Files, PIL pictures and arrays go in; pictures that are ready to be inspected come out, or why they are not."""

import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from velm_train.core.errors import DataError
from velm_train.core.hashing import sha256_file
from velm_train.core.images import read_rgb, write_png
from velm_train.core.records import ImageRecord
from velm_train.core.shapes import RGBImage

UNLABELLED = "unlabelled"
"""Stands where a record names its defect type; nothing below reads it."""

NEW_DATASET = "new"
"""The data set's name in the ids of new pictures."""

Pixels = np.ndarray | Image.Image


@dataclass(frozen=True, kw_only=True, slots=True)
class NewPicture:
    """One picture to inspect.

    Attributes:
        path: of its file.
        shown_path: as people gave it; "" for pixels.
        category: what it shows.
    """

    path: Path
    shown_path: str
    category: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadPicture:
    """One picture in memory.

    Attributes:
        record: its defect type is UNLABELLED.
        seconds: that hashing and reading took.
    """

    picture: NewPicture
    record: ImageRecord
    rgb: RGBImage
    seconds: float


def category_of(path: Path, *, given: str | None, categories: Collection[str]) -> str | None:
    """Returns the category of a file: the given one, the only one there is, or that of its nearest folder; else None.

    Args:
        path: of the file.
        given: by the user; None if nothing was said.
        categories: that can be judged.

    Raises:
        DataError: if the given one is none of them.
    """
    if given is not None:
        if given not in categories:
            raise DataError(f"category={given} is not one of this run's; allowed: {', '.join(sorted(categories))}")
        return given
    if len(categories) == 1:
        return next(iter(categories))
    return next((parent.name for parent in path.absolute().parents if parent.name in categories), None)


def read_picture(picture: NewPicture, *, number: int) -> ReadPicture:
    """Reads one picture.

    Args:
        picture: which.
        number: makes its id unique in a batch.

    Raises:
        DataError: if the file is absent or is not a readable picture.
    """
    started = time.perf_counter()
    rgb = read_rgb(picture.path)
    try:
        sha256 = sha256_file(picture.path)
    except OSError as error:
        raise DataError(
            f"image {picture.path} cannot be read ({error.strerror}); replace or remove the file"
        ) from error
    image_id = f"{NEW_DATASET}/{picture.category}/{number:06d}"
    record = ImageRecord(
        image_id=image_id,
        dataset=NEW_DATASET,
        category=picture.category,
        split="test",
        defect_type=UNLABELLED,
        image_path=picture.path,
        gt_mask_paths=(),
        sha256=sha256,
        group_id=image_id,
        size_hw=(rgb.shape[0], rgb.shape[1]),
    )
    return ReadPicture(picture=picture, record=record, rgb=rgb, seconds=time.perf_counter() - started)


def write_pixels(pixels: Pixels, path: Path) -> None:
    """Writes a PIL picture or an array as PNG, without loss, so that it goes the way of a file.

    Raises:
        DataError: if it is not a picture: an array other than uint8 of (H, W, 3) or grey (H, W), or a PIL picture of
            floating-point values.
    """
    if isinstance(pixels, Image.Image):
        if pixels.mode == "F":
            raise DataError("the picture holds floating-point values of unknown range; give it with 8 or 16 bits")
        upright = ImageOps.exif_transpose(pixels)
        plain = upright if upright.mode in {"1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"} else upright.convert("RGB")
        plain.save(path, format="PNG", compress_level=1)
        return
    coloured = pixels.ndim == 3 and pixels.shape[2] == 3
    if pixels.dtype != np.uint8 or not (coloured or pixels.ndim == 2) or min(pixels.shape) < 1:
        raise DataError(
            f"the picture is an array of {pixels.dtype} with shape {pixels.shape}; allowed: uint8 of (height, width, 3)"
            " in RGB order, or grey (height, width)"
        )
    write_png(pixels if coloured else np.repeat(pixels[..., None], 3, axis=2), path)
