"""Facts about what is kept of an image."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from velm_train.core.progress import SilentProgress
from velm_train.datasets.audit.fingerprints import Fingerprints, read_fingerprints
from velm_train.datasets.file_index import FileIndex


def read(paths: list[Path], index: Path | None = None) -> Fingerprints:
    with SilentProgress().stage("", total=0) as advance:
        return read_fingerprints(paths, index=FileIndex(index, num_threads=2), advance=advance)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Red at the left, blue at the right."""
    image = np.zeros((40, 72, 3), dtype=np.uint8)
    image[:, :36, 0] = 200
    image[:, 36:, 2] = 100
    Image.fromarray(image).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_grey_values_and_colours_of_the_whole_picture(picture: Path) -> None:
    found = read([picture])
    assert (found.thumbnails.shape, found.colours.shape) == ((1, 64, 64), (1, 4, 4, 3))
    assert (found.thumbnails[0, 5, 10], found.thumbnails[0, 60, 60]) == (60, 11)  # 0.299 * 200, 0.114 * 100
    assert found.colours[0, 0, 0].tolist() == [200, 0, 0]
    assert found.colours[0, 3, 3].tolist() == [0, 0, 100]


def test_files_that_cannot_be_read_are_named_and_left_out(picture: Path, tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(picture.read_bytes()[:60])
    found = read([tmp_path / "b.png", picture])
    assert found.paths == (picture,)
    assert list(found.failures) == [tmp_path / "b.png"]
    assert len(found.thumbnails) == 1


def test_a_big_jpeg_read_at_a_fraction_is_like_its_png(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    big = Image.fromarray(noise).resize((600, 400), Image.Resampling.BICUBIC)
    big.save(tmp_path / "a.png")
    big.save(tmp_path / "a.jpg", quality=95)
    found = read([tmp_path / "a.png", tmp_path / "a.jpg"])
    difference = found.thumbnails[0].astype(int) - found.thumbnails[1].astype(int)
    assert np.abs(difference).mean() < 2.0


def test_no_file_gives_empty_arrays() -> None:
    found = read([])
    assert (found.thumbnails.shape, found.failures) == ((0, 64, 64), {})
