"""Facts about reading and writing ground-truth masks."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from velm_train.core.errors import DataError
from velm_train.core.images import (
    check_gt_mask,
    read_gt_mask,
    read_mask_values,
    read_rgb,
    write_png,
)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(5, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("bands", [0, 2, 3, 4])
def test_mask_is_every_value_above_zero_whatever_its_transparency(tmp_path: Path, bands: int) -> None:
    expected = np.zeros((5, 8), dtype=bool)
    expected[1, 2:6] = True
    values = expected.astype(np.uint8)
    if bands:
        values = np.repeat(values[..., None], bands, axis=2)
    if bands in {2, 4}:
        values[..., -1] = 255
    Image.fromarray(values).save(tmp_path / "mask.png")
    assert np.array_equal(read_gt_mask(tmp_path / "mask.png", size_hw=(5, 8)), expected)


def with_palette(path: Path, indices: np.ndarray, colours: list[tuple[int, int, int]], *, alpha: bool = False) -> None:
    picture = Image.fromarray(indices.astype(np.uint8), mode="P")
    picture.putpalette([value for colour in colours for value in colour])
    (picture.convert("PA") if alpha else picture).save(path)


BLACK, WHITE, RED = (0, 0, 0), (255, 255, 255), (255, 0, 0)
INDICES = np.array([[0, 1, 2, 1], [2, 0, 0, 1]])


@pytest.mark.parametrize(
    ("colours", "background"),
    [
        ([BLACK, WHITE, RED], 0),  # class numbers with their colours
        ([BLACK, BLACK, RED], 0),  # class numbers with colours left out
        ([WHITE, BLACK, RED], 1),  # a black-and-white picture saved with few colours
        ([RED, WHITE, BLACK], 2),
    ],
)
def test_palette_mask_is_defect_above_a_black_index_0_and_else_where_it_is_not_black(
    tmp_path: Path, colours: list[tuple[int, int, int]], background: int
) -> None:
    with_palette(tmp_path / "mask.png", INDICES, colours)
    assert np.array_equal(read_gt_mask(tmp_path / "mask.png", size_hw=(2, 4)), background != INDICES)


def test_palette_mask_with_transparency_is_read_by_its_index(tmp_path: Path) -> None:
    with_palette(tmp_path / "mask.tif", INDICES, [BLACK, WHITE, RED], alpha=True)
    assert np.array_equal(read_gt_mask(tmp_path / "mask.tif", size_hw=(2, 4)), INDICES > 0)


@pytest.mark.parametrize("indices", [INDICES, np.zeros((2, 4))])
def test_palette_mask_without_black_is_refused(tmp_path: Path, indices: np.ndarray) -> None:
    with_palette(tmp_path / "mask.png", indices, [WHITE, RED, (0, 255, 0)])
    for read in (check_gt_mask, lambda path: read_gt_mask(path, size_hw=(2, 4))):
        with pytest.raises(DataError, match=r"mask\.png has a palette and no black pixel"):
            read(tmp_path / "mask.png")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_mask_values_are_the_numbers_that_occur(tmp_path: Path, dtype: type) -> None:
    Image.fromarray(np.array([[0, 3, 3], [1, 0, 200]], dtype=dtype)).save(tmp_path / "mask.png")
    assert read_mask_values(tmp_path / "mask.png") == {0, 1, 3, 200}


def test_values_of_a_palette_mask_are_its_indices(tmp_path: Path) -> None:
    with_palette(tmp_path / "mask.png", INDICES, [WHITE, BLACK, RED])
    assert read_mask_values(tmp_path / "mask.png") == {0, 1, 2}


def test_mask_values_of_several_channels_are_refused(tmp_path: Path, pixels: np.ndarray) -> None:
    write_png(pixels, tmp_path / "mask.png")
    with pytest.raises(DataError, match=r"mask\.png has 3 channels"):
        read_mask_values(tmp_path / "mask.png")


def test_mask_of_another_size_is_refused_with_both_sizes(tmp_path: Path) -> None:
    write_png(np.zeros((5, 8), dtype=bool), tmp_path / "mask.png")
    with pytest.raises(DataError, match=r"mask .*mask\.png is 5x8, its image 8x5"):
        read_gt_mask(tmp_path / "mask.png", size_hw=(8, 5))


def test_mask_is_written_and_read_back(tmp_path: Path) -> None:
    gt_mask = np.random.default_rng(0).random((5, 8)) > 0.5
    write_png(gt_mask, tmp_path / "new" / "folder" / "mask.png")
    assert np.array_equal(read_gt_mask(tmp_path / "new" / "folder" / "mask.png", size_hw=(5, 8)), gt_mask)
    assert set(np.unique(read_rgb(tmp_path / "new" / "folder" / "mask.png"))) == {0, 255}
