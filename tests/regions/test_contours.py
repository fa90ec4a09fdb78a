"""Outlines of masks as short polygons."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from velm_train.regions.contours import outline


def filled(contour: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    canvas = Image.new("1", (size_hw[1], size_hw[0]))
    ImageDraw.Draw(canvas).polygon([(int(x), int(y)) for x, y in contour], fill=1, outline=1)
    return np.asarray(canvas)


def test_rectangle_is_outlined_by_its_corner_pixels():
    pred_mask = np.zeros((20, 30), dtype=bool)
    pred_mask[4:9, 10:25] = True
    contour = outline(pred_mask, offset_xy=(100, 200))
    assert contour.dtype == np.int32
    assert contour.min(axis=0).tolist() == [110, 204]
    assert contour.max(axis=0).tolist() == [124, 208]
    assert len(contour) <= 8


def test_filled_outline_restores_a_blob():
    rows, columns = np.mgrid[:60, :90]
    blob = ((rows - 25) / 15) ** 2 + ((columns - 50) / 30) ** 2 < 1
    restored = filled(outline(blob, offset_xy=(0, 0)), (60, 90))
    assert (restored & blob).sum() / (restored | blob).sum() > 0.93


def test_mask_that_fills_its_window_is_outlined_along_the_border():
    contour = outline(np.ones((6, 9), dtype=bool), offset_xy=(0, 0))
    assert filled(contour, (6, 9)).all()


def test_outer_outline_is_taken_of_a_ring():
    ring = np.ones((21, 31), dtype=bool)
    ring[5:16, 5:26] = False
    contour = outline(ring, offset_xy=(0, 0))
    assert contour.min(axis=0).tolist() == [0, 0]
    assert contour.max(axis=0).tolist() == [30, 20]


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (1, 7), (5, 1), (2, 2)])
def test_tiny_masks_have_points_inside_their_window(shape):
    contour = outline(np.ones(shape, dtype=bool), offset_xy=(3, 4))
    assert len(contour) >= 1
    assert (contour >= [3, 4]).all()
    assert (contour < [3 + shape[1], 4 + shape[0]]).all()
