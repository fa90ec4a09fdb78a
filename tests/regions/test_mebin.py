"""Facts about the threshold at which components are stable."""

import numpy as np
import pytest
from scipy import ndimage

from velm_train.regions.mebin import EROSION_PX, MIN_RUN, _end_of_longest_run, erode, stable_threshold

SIZE_HW = (160, 256)


def blobs(*places: tuple[int, int, float], radius: float = 14.0, noise: float = 0.0) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]]
    values = np.random.default_rng(0).uniform(0.0, noise, SIZE_HW) if noise else np.zeros(SIZE_HW)
    for row, column, height in places:
        values = np.maximum(values, height * np.exp(-(((rows - row) ** 2 + (columns - column) ** 2) / radius**2)))
    return values.astype(np.float32)


def count(mask: np.ndarray) -> int:
    return int(ndimage.label(mask, structure=np.ones((3, 3)))[1])


def slow_erosion(mask: np.ndarray, side: int) -> np.ndarray:
    height, width = mask.shape
    before, after = side // 2, side - side // 2 - 1
    out = np.zeros_like(mask)
    for row in range(height):
        for column in range(width):
            window = mask[max(0, row - before) : row + after + 1, max(0, column - before) : column + after + 1]
            out[row, column] = window.all()
    return out


def test_eroding_values_and_cutting_equals_cutting_and_eroding_the_mask() -> None:
    values = np.random.default_rng(1).random((23, 37)).astype(np.float32)
    smooth = ndimage.uniform_filter(values, 9)
    for threshold in np.quantile(smooth, [0.1, 0.3, 0.5]):
        expected = slow_erosion(smooth > threshold, EROSION_PX)
        np.testing.assert_array_equal(erode(smooth, side_px=EROSION_PX) > threshold, expected)


def test_two_blobs_of_different_height_are_both_found() -> None:
    anomaly_map = blobs((50, 60, 4.0), (100, 190, 2.0))
    threshold = stable_threshold(anomaly_map, image_size_hw=SIZE_HW, low=0.2, high=4.0)
    assert threshold is not None
    assert count(anomaly_map > threshold) == 2


def test_threshold_is_the_lowest_of_the_longest_run_written_out() -> None:
    anomaly_map = blobs((50, 60, 4.0), (100, 190, 3.5), (100, 120, 1.0), noise=0.9)
    low, high = 0.1, 4.0
    counts = {}
    for level in range(255, 0, -4):
        threshold = low + level / 255 * (high - low)
        counts[threshold] = count(slow_erosion(anomaly_map > threshold, EROSION_PX))
    runs: list[tuple[int, float, int]] = []
    for threshold, number in counts.items():
        if runs and runs[-1][2] == number:
            runs[-1] = (runs[-1][0] + 1, threshold, number)
        else:
            runs.append((1, threshold, number))
    length, expected, _ = max((run for run in runs if run[2] > 0), key=lambda run: run[0])
    assert length >= MIN_RUN
    assert stable_threshold(anomaly_map, image_size_hw=SIZE_HW, low=low, high=high) == pytest.approx(expected)


def test_counts_are_those_of_a_map_of_the_published_resolution() -> None:
    small = blobs((50, 60, 4.0), (100, 190, 2.0))[::16, ::16]
    assert small.shape == (10, 16)
    threshold = stable_threshold(small, image_size_hw=(1000, 1600), low=0.2, high=4.0)
    assert threshold is not None
    assert 0.2 < threshold < 2.0


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0)])
def test_empty_range_has_no_threshold(low: float, high: float) -> None:
    assert stable_threshold(blobs((50, 60, 4.0)), image_size_hw=SIZE_HW, low=low, high=high) is None


def test_map_without_anything_in_the_range_has_no_threshold() -> None:
    assert stable_threshold(blobs((50, 60, 0.5)), image_size_hw=SIZE_HW, low=1.0, high=4.0) is None


@pytest.mark.parametrize(
    ("counts", "end"),
    [
        ([0] * 10, None),
        ([1, 1, 1], None),
        ([1, 1, 1, 1], 3),
        ([0, 0, 0, 0, 0, 2, 2, 2, 2, 1, 1, 1], 8),
        ([3, 3, 3, 3, 0, 1, 1, 1, 1], 3),
        ([3, 3, 3, 3, 1, 1, 1, 1, 1], 8),
        ([5, 2, 2, 2, 7, 2, 2, 2], None),
    ],
)
def test_end_of_the_longest_run(counts: list[int], end: int | None) -> None:
    assert _end_of_longest_run(counts) == end
