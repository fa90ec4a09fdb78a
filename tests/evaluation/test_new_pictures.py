"""Files, PIL pictures and arrays as they reach the inspector."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from velm_train.core.errors import DataError
from velm_train.core.images import read_rgb, write_png
from velm_train.evaluation.new_pictures import NewPicture, category_of, read_picture, write_pixels

CATEGORIES = ("cable", "bottle")


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def test_category_is_the_given_one_before_the_folder() -> None:
    path = Path("/data/bottle/7.png")
    assert category_of(path, given="cable", categories=CATEGORIES) == "cable"
    assert category_of(path, given=None, categories=CATEGORIES) == "bottle"


def test_nearest_folder_decides_and_a_part_of_a_name_does_not() -> None:
    assert category_of(Path("/bottle/cable/test/bent/7.png"), given=None, categories=CATEGORIES) == "cable"
    assert category_of(Path("/bottles/7.png"), given=None, categories=CATEGORIES) is None
    assert category_of(Path("/data/bottle"), given=None, categories=CATEGORIES) is None  # a file of that name


def test_relative_path_is_seen_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cable").mkdir()
    monkeypatch.chdir(tmp_path / "cable")
    assert category_of(Path("7.png"), given=None, categories=CATEGORIES) == "cable"


def test_only_category_needs_no_word() -> None:
    assert category_of(Path("/data/7.png"), given=None, categories=("cable",)) == "cable"


def test_unknown_category_is_refused_with_the_list() -> None:
    with pytest.raises(DataError, match=r"^category=capsule is not one of this run's; allowed: bottle, cable$"):
        category_of(Path("7.png"), given="capsule", categories=CATEGORIES)


def test_file_is_read_upright_with_the_hash_of_its_bytes(tmp_path: Path, rgb: np.ndarray) -> None:
    path = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rgb).save(path, exif=exif)
    read = read_picture(NewPicture(path=path, shown_path="turned.png", category="cable"), number=4)
    assert read.record.size_hw == (7, 5)
    assert np.array_equal(read.rgb, np.rot90(rgb, 3))
    assert read.record.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert read.record.image_id == "new/cable/000004"
    assert read.seconds > 0


@pytest.mark.parametrize("content", [None, b"", b"no picture", b"\x89PNG\r\n\x1a\n cut"])
def test_broken_file_is_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"image .*broken\.png (does not exist|cannot be read)"):
        read_picture(NewPicture(path=path, shown_path="broken.png", category="cable"), number=0)


def test_pixels_survive_the_way_through_a_file(tmp_path: Path, rgb: np.ndarray) -> None:
    path = tmp_path / "pixels.png"
    for pixels in (rgb, Image.fromarray(rgb)):
        write_pixels(pixels, path)
        assert np.array_equal(read_rgb(path), rgb)
    write_pixels(rgb[..., 0], path)
    assert np.array_equal(read_rgb(path), np.repeat(rgb[..., :1], 3, axis=2))


def test_pil_pictures_are_read_as_their_file_would_be(tmp_path: Path, rgb: np.ndarray) -> None:
    path = tmp_path / "pixels.png"
    for mode in ("L", "P", "RGBA", "CMYK", "1"):
        picture = Image.fromarray(rgb).convert(mode)
        write_pixels(picture, path)
        assert np.array_equal(read_rgb(path), np.asarray(picture.convert("RGB"))), mode
    deep = np.arange(35, dtype=np.uint16).reshape(5, 7) * 1800
    Image.fromarray(deep).save(tmp_path / "deep.png")
    with Image.open(tmp_path / "deep.png") as picture:
        write_pixels(picture, path)
    assert np.array_equal(read_rgb(path), read_rgb(tmp_path / "deep.png"))


def test_pil_picture_is_turned_upright(tmp_path: Path, rgb: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rgb).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as picture:
        write_pixels(picture, tmp_path / "pixels.png")
    assert np.array_equal(read_rgb(tmp_path / "pixels.png"), np.rot90(rgb, 3))


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((5, 7, 3)), np.zeros((5, 7, 4), np.uint8), np.zeros((0, 7, 3), np.uint8), np.zeros(5, np.uint8)],
    ids=["float", "four channels", "empty", "flat"],
)
def test_array_that_is_no_picture_is_refused(tmp_path: Path, pixels: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"^the picture is an array of .* allowed: uint8 of \(height, width, 3\)"):
        write_pixels(pixels, tmp_path / "pixels.png")


def test_floating_point_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"floating-point"):
        write_pixels(Image.fromarray(np.zeros((5, 7), np.float32)), tmp_path / "pixels.png")


def test_written_file_is_a_plain_png(tmp_path: Path, rgb: np.ndarray) -> None:
    write_pixels(rgb, tmp_path / "a.png")
    write_png(rgb, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
