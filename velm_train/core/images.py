"""Reading and writing pictures: files in, RGB arrays and masks of known size out."""

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import overload

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import ExifTags, Image, ImageOps

from velm_train.core.errors import DataError, ResourceError
from velm_train.core.records import BoxXYXY, SizeHW
from velm_train.core.shapes import BoolMap, RGBImage

_UNREADABLE = (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)
"""What Pillow raises for files that are damaged, of an unknown kind, or larger than it dares to open."""

_QUARTER_TURNS = (5, 6, 7, 8)
"""EXIF orientations that exchange height and width."""

_FLOATING_POINT = "image {path} holds floating-point values of unknown range; save it with 8 or 16 bits"

_PNG_SIGNATURE_BYTES = 8
_PNG_CHECKSUM_BYTES = 4
_PNG_TEXT_CHUNKS = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
"""Chunks in which Pillow looks for an orientation."""


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns what Pillow raises for a file it cannot read into one error that names the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"image {path} does not exist") from error
    except _UNREADABLE as error:
        raise DataError(f"image {path} cannot be read ({error}); replace or remove the file") from error


def _open_upright(path: Path) -> Image.Image:
    with _reading(path), Image.open(path) as image:
        return ImageOps.exif_transpose(image)


def _to_uint8(image: Image.Image, path: Path) -> Image.Image:
    """Maps 16-bit pictures to 8 bits by the full range of their type, never by their content."""
    if image.mode == "F":
        raise DataError(_FLOATING_POINT.format(path=path))
    if image.mode in {"I;16", "I;16B", "I;16L", "I"}:
        values = np.asarray(image, dtype=np.int64)
        return Image.fromarray(np.clip(values // 257, 0, 255).astype(np.uint8))
    return image


def read_rgb(path: Path) -> RGBImage:
    """Reads a picture as RGB, upright by its EXIF orientation; grey, palette and 16-bit files are converted.

    Transparency is dropped, not blended: a transparent pixel keeps its colour.

    Returns:
        uint8 array (H, W, 3).

    Raises:
        DataError: if the file is absent, is not a readable picture, or holds floating-point values.
    """
    return np.asarray(_to_uint8(_open_upright(path), path).convert("RGB"))


def read_reduced_rgb(path: Path, *, size_hw: SizeHW) -> UInt8[np.ndarray, "small_h small_w 3"]:
    """Reads a whole picture as `read_rgb` does and reduces it to the given size, whatever its shape.

    A JPEG is decoded at half, a quarter or an eighth of its size where that still is twice the size asked for.

    Raises:
        DataError: as `read_rgb`; a truncated file is refused as well.
    """
    height, width = size_hw
    with _reading(path), Image.open(path) as image:
        image.draft(None, (2 * width, 2 * height))
        upright = ImageOps.exif_transpose(image)
    return np.asarray(_to_uint8(upright, path).convert("RGB").resize((width, height), Image.Resampling.BILINEAR))


def read_size_hw(path: Path) -> SizeHW:
    """Returns height and width after EXIF rotation, from the header alone.

    Raises:
        DataError: if the file is absent or is not a picture.
    """
    with _reading(path), Image.open(path) as image:
        width, height = image.size
        if image.format == "TIFF":  # Pillow has turned the size already
            return height, width
        hidden = image.format == "PNG" and _png_has_text_behind_pixels(path)
        exif = image.getexif() if hidden or image.format != "PNG" else Image.Image.getexif(image)
        quarter_turned = exif.get(ExifTags.Base.Orientation) in _QUARTER_TURNS
    return (width, height) if quarter_turned else (height, width)


def _png_has_text_behind_pixels(path: Path) -> bool:
    """Tells whether an orientation may stand behind the pixels of a PNG, where Pillow finds it by decoding them."""
    behind_pixels = False
    with path.open("rb", buffering=0) as stream:
        stream.seek(_PNG_SIGNATURE_BYTES)
        while len(head := stream.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if behind_pixels and kind in _PNG_TEXT_CHUNKS:
                return True
            behind_pixels = behind_pixels or kind == b"IDAT"
            stream.seek(length + _PNG_CHECKSUM_BYTES, os.SEEK_CUR)
    return False


def check_rgb(path: Path) -> SizeHW:
    """Goes through all of a picture to see that `read_rgb` will not fail, and returns its upright height and width.

    What takes a fraction of the time of decoding is done where there is such a thing: the checksums of a PNG are
    compared, and a JPEG is decoded at an eighth of its size.

    Raises:
        DataError: as `read_rgb`.
    """
    with _reading(path), Image.open(path) as image:
        if image.format == "PNG":
            image.verify()
        else:
            image.draft("RGB", (1, 1))
            image.load()
    if image.mode == "F":
        raise DataError(_FLOATING_POINT.format(path=path))
    return read_size_hw(path)


def check_gt_mask(path: Path) -> SizeHW:
    """Decodes a mask to see that `read_gt_mask` will not fail, and returns its height and width after EXIF rotation.

    Raises:
        DataError: as `read_gt_mask`.
    """
    height, width = _read_mask(path).shape
    return height, width


def read_gt_mask(path: Path, *, size_hw: SizeHW) -> BoolMap:
    """Reads a ground-truth mask: every value above zero is defect; transparency is ignored.

    A mask with a palette is defect where its index is above zero if index 0 is black, as in masks of class numbers;
    otherwise, as in black-and-white pictures that were saved with few colours, wherever it is not black.

    Args:
        path: mask file.
        size_hw: size of the image it belongs to.

    Returns:
        bool array (H, W).

    Raises:
        DataError: if it cannot be read, has another size than its image, or a palette that leaves open what is defect.
    """
    gt_mask = _read_mask(path)
    if gt_mask.shape != size_hw:
        raise DataError(f"mask {path} is {gt_mask.shape[0]}x{gt_mask.shape[1]}, its image {size_hw[0]}x{size_hw[1]}")
    return gt_mask


def _read_mask(path: Path) -> BoolMap:
    image = _open_upright(path)
    return _palette_mask(image, path) if "P" in image.getbands() else _colour_channels(image).max(axis=2) > 0


def read_mask_values(path: Path) -> frozenset[int]:
    """Returns the values that occur in a mask of one channel, such as class numbers; indices if it has a palette.

    Raises:
        DataError: if it cannot be read, or has several channels.
    """
    channels = _colour_channels(_open_upright(path))
    if channels.shape[2] != 1:
        raise DataError(f"mask {path} has {channels.shape[2]} channels; one channel of class numbers is expected")
    return frozenset(np.unique(channels).astype(int).tolist())


def _colour_channels(image: Image.Image) -> Shaped[np.ndarray, "h w channels"]:
    """Returns the values without alpha, which says nothing about defects."""
    values = np.asarray(image)
    num_channels = len(image.getbands()) - ("A" in image.getbands())
    return values[..., None] if values.ndim == 2 else values[..., :num_channels]


def _palette_mask(image: Image.Image, path: Path) -> BoolMap:
    indices = _colour_channels(image)[..., 0]
    palette = image.getpalette("RGB") or []
    black = [index for index in range(len(palette) // 3) if not any(palette[3 * index : 3 * index + 3])]
    if 0 in black:
        return indices > 0
    if not np.isin(indices, black).any():
        raise DataError(
            f"mask {path} has a palette and no black pixel, so it is not clear what is background; save it as grey "
            "values with 0 for background"
        )
    return ~np.isin(indices, black)


def read_gt_masks(paths: Sequence[Path], *, size_hw: SizeHW) -> BoolMap:
    """Reads the masks of one image and returns where any of them marks a defect; all False without a mask.

    Raises:
        DataError: as `read_gt_mask`.
    """
    union = np.zeros(size_hw, dtype=np.bool_)
    for path in paths:
        union |= read_gt_mask(path, size_hw=size_hw)
    return union


class LazyImages(Sequence[RGBImage]):
    """Pictures that are read from disk each time one is asked for, so that thousands need no memory."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Remembers the files; none is opened."""
        self._paths = tuple(paths)

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> RGBImage: ...

    @overload
    def __getitem__(self, index: slice) -> "LazyImages": ...

    def __getitem__(self, index: int | slice) -> "RGBImage | LazyImages":
        """Reads one picture, or returns the pictures of a slice, still unread.

        Raises:
            DataError: as `read_rgb`.
        """
        if isinstance(index, slice):
            return LazyImages(self._paths[index])
        return read_rgb(self._paths[index])


def cut_out(image: RGBImage, box_xyxy: BoxXYXY) -> UInt8[np.ndarray, "crop_h crop_w 3"]:
    """Returns a copy of the pixels inside a half-open box that lies within the image."""
    x0, y0, x1, y1 = box_xyxy
    assert 0 <= x0 < x1 <= image.shape[1], box_xyxy
    assert 0 <= y0 < y1 <= image.shape[0], box_xyxy
    return image[y0:y1, x0:x1].copy()


def write_png(image: RGBImage | BoolMap, path: Path) -> None:
    """Writes an RGB picture, or a mask as 0 and 255; folders are made as needed.

    Raises:
        ResourceError: if the file cannot be written.
    """
    values = image.astype(np.uint8) * 255 if image.dtype == np.bool_ else image
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path, format="PNG", compress_level=1)
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror}; check space and permissions") from error
