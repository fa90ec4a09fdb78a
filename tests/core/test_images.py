"""Pictures of every kind come out upright, as RGB of 8 bits; broken files are refused by name."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from velm_train.core.errors import DataError, ResourceError
from velm_train.core.images import (
    check_gt_mask,
    check_rgb,
    cut_out,
    read_gt_mask,
    read_mask_values,
    read_rgb,
    read_size_hw,
    write_png,
)

ORIENTATION = 0x0112

UPRIGHT = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).transpose(1, 0, 2),
    8: np.rot90,
}
"""EXIF orientation -> how the stored pixels are turned to be seen upright (EXIF 2.32, 4.6.4)."""


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(5, 8, 3), dtype=np.uint8)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_picture_is_turned_upright(tmp_path: Path, pixels: np.ndarray, orientation: int, suffix: str) -> None:
    path = tmp_path / f"turned.{suffix}"
    Image.fromarray(pixels).save(path, exif=exif(orientation))
    expected = UPRIGHT[orientation](pixels)
    assert np.array_equal(read_rgb(path), expected)
    assert read_size_hw(path) == expected.shape[:2]


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", [0, 1, 3, 6, 8, 9])
def test_size_agrees_with_the_picture(tmp_path: Path, pixels: np.ndarray, orientation: int, suffix: str) -> None:
    path = tmp_path / f"turned.{suffix}"
    Image.fromarray(pixels).save(path, exif=exif(orientation))
    assert read_size_hw(path) == read_rgb(path).shape[:2] == ((8, 5) if orientation in {6, 8} else (5, 8))


def test_orientation_behind_the_pixels_of_a_png_counts(tmp_path: Path, pixels: np.ndarray) -> None:
    write_png(pixels, tmp_path / "plain.png")
    plain = (tmp_path / "plain.png").read_bytes()
    content = exif(6).tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(content)) + b"eXIf" + content + struct.pack(">I", zlib.crc32(b"eXIf" + content))
    (tmp_path / "late.png").write_bytes(plain[:-12] + chunk + plain[-12:])
    assert read_rgb(tmp_path / "late.png").shape == (8, 5, 3)
    assert read_size_hw(tmp_path / "late.png") == (8, 5)


def test_orientation_in_the_xmp_text_of_a_png_counts(tmp_path: Path, pixels: np.ndarray) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", '<rdf:Description tiff:Orientation="8"/>')
    Image.fromarray(pixels).save(tmp_path / "xmp.png", pnginfo=text)
    assert read_size_hw(tmp_path / "xmp.png") == read_rgb(tmp_path / "xmp.png").shape[:2] == (8, 5)


def test_size_of_a_png_is_read_without_decoding_it(tmp_path: Path, pixels: np.ndarray, monkeypatch) -> None:
    write_png(pixels, tmp_path / "plain.png")
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif(6))
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda self: pytest.fail("the pixels were decoded"))
    assert read_size_hw(tmp_path / "plain.png") == (5, 8)
    assert read_size_hw(tmp_path / "turned.png") == (8, 5)


def test_grey_is_repeated_in_all_channels(tmp_path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    assert np.array_equal(read_rgb(tmp_path / "grey.png"), pixels[..., :1].repeat(3, axis=2))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_scaled_by_their_full_range(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 256, 257, 32767], [32896, 65278, 65279, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
    expected = [[0, 0, 1, 127], [128, 254, 254, 255]]
    assert read_rgb(tmp_path / f"deep.{suffix}")[..., 1].tolist() == expected


def test_dark_16_bit_picture_stays_dark(tmp_path: Path) -> None:
    Image.fromarray(np.full((3, 4), 1000, dtype=np.uint16)).save(tmp_path / "dark.png")
    assert np.unique(read_rgb(tmp_path / "dark.png")).tolist() == [3]


def test_palette_becomes_its_colours(tmp_path: Path) -> None:
    indexed = Image.fromarray(np.array([[0, 1, 2], [2, 1, 0]], dtype=np.uint8), mode="P")
    indexed.putpalette([10, 20, 30, 200, 100, 50, 1, 2, 3])
    indexed.save(tmp_path / "palette.png")
    assert read_rgb(tmp_path / "palette.png").tolist()[0] == [[10, 20, 30], [200, 100, 50], [1, 2, 3]]


@pytest.mark.parametrize("bands", [2, 4])
def test_alpha_is_dropped_and_not_blended(tmp_path: Path, pixels: np.ndarray, bands: int) -> None:
    colour = pixels[..., : bands - 1]
    alpha = np.zeros((5, 8, 1), dtype=np.uint8)
    Image.fromarray(np.concatenate([colour, alpha], axis=2)).save(tmp_path / "alpha.png")
    assert np.array_equal(read_rgb(tmp_path / "alpha.png"), np.broadcast_to(colour, (5, 8, 3)))


def test_floating_point_picture_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((3, 4), dtype=np.float32)).save(tmp_path / "float.tif")
    for read in (read_rgb, check_rgb):
        with pytest.raises(DataError, match=r"float\.tif holds floating-point values"):
            read(tmp_path / "float.tif")


READERS = [
    read_rgb,
    read_size_hw,
    check_rgb,
    check_gt_mask,
    read_mask_values,
    lambda path: read_gt_mask(path, size_hw=(5, 8)),
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n\0\0", b"GIF89a"])
def test_broken_file_is_refused_by_name(tmp_path: Path, read, content: bytes) -> None:
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.png cannot be read .*; replace or remove the file") as caught:
        read(tmp_path / "broken.png")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
def test_truncated_file_is_refused(tmp_path: Path, suffix: str) -> None:
    large = np.random.default_rng(0).integers(0, 256, size=(50, 70, 3), dtype=np.uint8)
    Image.fromarray(large).save(tmp_path / f"whole.{suffix}")
    content = (tmp_path / f"whole.{suffix}").read_bytes()
    (tmp_path / f"half.{suffix}").write_bytes(content[: len(content) // 2])
    for read in (read_rgb, check_rgb, check_gt_mask):
        with pytest.raises(DataError, match=rf"half\.{suffix} cannot be read"):
            read(tmp_path / f"half.{suffix}")
    assert check_rgb(tmp_path / f"whole.{suffix}") == check_gt_mask(tmp_path / f"whole.{suffix}") == (50, 70)


@pytest.mark.parametrize("cut", [12, 13, 40])
def test_png_without_its_end_is_found(tmp_path: Path, cut: int) -> None:
    large = np.random.default_rng(0).integers(0, 256, size=(50, 70, 3), dtype=np.uint8)
    Image.fromarray(large).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-cut])
    with pytest.raises(DataError, match=r"a\.png cannot be read"):
        check_rgb(tmp_path / "a.png")


def test_png_with_a_flipped_bit_is_found(tmp_path: Path) -> None:
    large = np.random.default_rng(0).integers(0, 256, size=(50, 70, 3), dtype=np.uint8)
    Image.fromarray(large).save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[5000] ^= 1
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png cannot be read"):
        check_rgb(tmp_path / "a.png")


@pytest.mark.parametrize("read", READERS)
def test_absent_file_is_refused(tmp_path: Path, read) -> None:
    with pytest.raises(DataError, match=r"none\.png does not exist"):
        read(tmp_path / "none.png")


@pytest.mark.parametrize("read", READERS)
def test_picture_too_large_to_open_is_refused(tmp_path: Path, pixels: np.ndarray, read, monkeypatch) -> None:
    write_png(pixels, tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(DataError, match=r"large\.png cannot be read .*decompression bomb"):
        read(tmp_path / "large.png")


@pytest.mark.parametrize("read", READERS)
def test_folder_in_place_of_a_file_is_refused(tmp_path: Path, read) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path)


def test_picture_is_written_and_read_back(tmp_path: Path, pixels: np.ndarray) -> None:
    write_png(pixels, tmp_path / "picture.png")
    assert np.array_equal(read_rgb(tmp_path / "picture.png"), pixels)


def test_place_that_cannot_be_written_is_refused(tmp_path: Path, pixels: np.ndarray) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot write"):
        write_png(pixels, tmp_path / "file" / "picture.png")


def test_cut_out_is_half_open_and_a_copy(pixels: np.ndarray) -> None:
    before = pixels.copy()
    crop = cut_out(pixels, (2, 1, 5, 3))
    assert np.array_equal(crop, before[1:3, 2:5])
    crop[:] = 0
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize("box_xyxy", [(-1, 0, 3, 3), (0, 0, 9, 3), (0, 0, 3, 6), (3, 0, 3, 3), (0, 4, 3, 3)])
def test_box_outside_the_picture_breaks_an_invariant(pixels: np.ndarray, box_xyxy: tuple[int, int, int, int]) -> None:
    with pytest.raises(AssertionError):
        cut_out(pixels, box_xyxy)
