"""Reading and writing pictures: files in, RGB arrays and masks of known size out."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from velm_train.core.errors import DataError
from velm_train.core.records import BoxXYXY, SizeHW
from velm_train.core.shapes import BoolMap, RGBImage


def _open_upright(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image)
    except FileNotFoundError as error:
        raise DataError(f"image {path} does not exist") from error
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise DataError(f"image {path} cannot be read ({error}); replace or remove the file") from error


def _to_uint8(image: Image.Image) -> Image.Image:
    """Maps 16-bit and float pictures to 8 bits by their type's full range, never by their content."""
    if image.mode in {"I;16", "I;16B", "I;16L", "I"}:
        values = np.asarray(image, dtype=np.int64)
        return Image.fromarray(np.clip(values // 257, 0, 255).astype(np.uint8))
    return image


def read_rgb(path: Path) -> RGBImage:
    """Reads a picture as RGB, upright by its EXIF orientation; grey, palette and 16-bit files are converted.

    Returns:
        uint8 array (H, W, 3).

    Raises:
        DataError: if the file is absent or is not a readable picture.
    """
    return np.asarray(_to_uint8(_open_upright(path)).convert("RGB"))


def read_size_hw(path: Path) -> SizeHW:
    """Returns height and width after EXIF rotation, from the header alone.

    Raises:
        DataError: if the file is absent or is not a picture.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            quarter_turned = image.getexif().get(0x0112, 1) >= 5
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise DataError(f"image {path} cannot be read ({error}); replace or remove the file") from error
    return (width, height) if quarter_turned else (height, width)


def read_gt_mask(path: Path, *, size_hw: SizeHW) -> BoolMap:
    """Reads a ground-truth mask: every value above zero is defect.

    Args:
        path: mask file.
        size_hw: size of the image it belongs to.

    Returns:
        bool array (H, W).

    Raises:
        DataError: if it cannot be read or has another size than its image.
    """
    values = np.asarray(_open_upright(path))
    gt_mask = (values if values.ndim == 2 else values[..., :3].max(axis=2)) > 0
    if gt_mask.shape != size_hw:
        raise DataError(f"mask {path} is {gt_mask.shape[0]}x{gt_mask.shape[1]}, its image {size_hw[0]}x{size_hw[1]}")
    return gt_mask


def cut_out(image: RGBImage, box_xyxy: BoxXYXY) -> UInt8[np.ndarray, "crop_h crop_w 3"]:
    """Returns a copy of the pixels inside a half-open box that lies within the image."""
    x0, y0, x1, y1 = box_xyxy
    assert 0 <= x0 < x1 <= image.shape[1], box_xyxy
    assert 0 <= y0 < y1 <= image.shape[0], box_xyxy
    return image[y0:y1, x0:x1].copy()


def write_png(image: RGBImage | BoolMap, path: Path) -> None:
    """Writes an RGB picture, or a mask as 0 and 255; folders are made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = image.astype(np.uint8) * 255 if image.dtype == np.bool_ else image
    Image.fromarray(values).save(path, compress_level=1)
