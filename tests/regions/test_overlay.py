"""Red outlines on pictures, and maps averaged over token grids."""

import numpy as np
import pytest

from velm_train.core.errors import DataError
from velm_train.regions.overlay import draw_contour, pool_map


def test_outline_is_pure_red_closed_and_changes_nothing_else():
    image = np.full((30, 50, 3), 90, dtype=np.uint8)
    contour = np.array([[10, 5], [40, 5], [40, 20], [10, 20]], dtype=np.int32)
    drawn = draw_contour(image, contour, width_px=1)
    red = (drawn == [255, 0, 0]).all(axis=2)
    expected = np.zeros((30, 50), dtype=bool)
    expected[5, 10:41] = expected[20, 10:41] = True
    expected[5:21, 10] = expected[5:21, 40] = True
    np.testing.assert_array_equal(red, expected)
    np.testing.assert_array_equal(drawn[~red], image[~red])
    assert (image == 90).all()


def test_line_width_widens_the_line():
    image = np.zeros((40, 60, 3), dtype=np.uint8)
    contour = np.array([[10, 10], [50, 10], [50, 30], [10, 30]], dtype=np.int32)
    column = draw_contour(image, contour, width_px=3)[:, 30, 0] > 0
    assert column.sum() == 6


def test_empty_outline_draws_nothing_on_a_copy():
    image = np.zeros((4, 6, 3), dtype=np.uint8)
    drawn = draw_contour(image, np.zeros((0, 2), dtype=np.int32), width_px=2)
    np.testing.assert_array_equal(drawn, image)
    assert drawn is not image


def test_single_point_is_visible():
    drawn = draw_contour(np.zeros((20, 30, 3), dtype=np.uint8), np.array([[15, 10]], dtype=np.int32), width_px=2)
    assert (drawn == [255, 0, 0]).all(axis=2).any()


def pool_map_slowly(anomaly_map, image_size_hw, box_xyxy, grid_hw):
    """Adds up the overlap of every token with every map cell."""
    (height, width), (rows, columns) = image_size_hw, grid_hw
    x0, y0, x1, y1 = box_xyxy
    cell_h, cell_w = height / anomaly_map.shape[0], width / anomaly_map.shape[1]
    pooled = np.zeros(grid_hw)
    for i in range(rows):
        for j in range(columns):
            top, bottom = y0 + (y1 - y0) * i / rows, y0 + (y1 - y0) * (i + 1) / rows
            left, right = x0 + (x1 - x0) * j / columns, x0 + (x1 - x0) * (j + 1) / columns
            total = 0.0
            for r in range(anomaly_map.shape[0]):
                for c in range(anomaly_map.shape[1]):
                    overlap_y = max(0.0, min(bottom, (r + 1) * cell_h) - max(top, r * cell_h))
                    overlap_x = max(0.0, min(right, (c + 1) * cell_w) - max(left, c * cell_w))
                    total += anomaly_map[r, c] * overlap_y * overlap_x
            pooled[i, j] = total / ((bottom - top) * (right - left))
    return pooled


@pytest.mark.parametrize(
    ("box_xyxy", "grid_hw"),
    [((0, 0, 95, 61), (4, 7)), ((10, 3, 74, 50), (7, 7)), ((40, 20, 49, 27), (5, 3)), ((94, 60, 95, 61), (2, 2))],
)
def test_pooling_equals_the_written_out_area_average(box_xyxy, grid_hw):
    anomaly_map = np.random.default_rng(0).random((6, 10)).astype(np.float32)
    pooled = pool_map(anomaly_map, (61, 95), box_xyxy, grid_hw)
    assert pooled.dtype == np.float32
    np.testing.assert_allclose(pooled, pool_map_slowly(anomaly_map, (61, 95), box_xyxy, grid_hw), rtol=1e-5)


def test_pooling_to_the_map_s_own_grid_returns_the_map():
    anomaly_map = np.random.default_rng(0).random((6, 10)).astype(np.float32)
    np.testing.assert_allclose(pool_map(anomaly_map, (61, 95), (0, 0, 95, 61), (6, 10)), anomaly_map, rtol=1e-6)


def test_pooling_keeps_the_mean_over_the_image():
    anomaly_map = np.random.default_rng(0).random((6, 10)).astype(np.float32)
    pooled = pool_map(anomaly_map, (61, 95), (0, 0, 95, 61), (7, 9))
    assert pooled.mean() == pytest.approx(anomaly_map.mean(), rel=1e-5)


def test_box_outside_the_image_is_refused():
    with pytest.raises(DataError, match="61x95"):
        pool_map(np.zeros((6, 10), dtype=np.float32), (61, 95), (0, 0, 96, 61), (2, 3))


@pytest.mark.parametrize("grid_hw", [(4, 7), (3, 2)])
def test_pooling_a_tile_is_pooling_its_part_of_the_box(grid_hw):
    """The box is 64 x 40 px; the tile shows its right half and its lower three quarters."""
    anomaly_map = np.random.default_rng(0).random((6, 10)).astype(np.float32)
    pooled = pool_map(anomaly_map, (61, 95), (10, 3, 74, 43), grid_hw, tile_xyxy=(0.5, 0.25, 1.0, 1.0))
    np.testing.assert_allclose(pooled, pool_map(anomaly_map, (61, 95), (42, 13, 74, 43), grid_hw), rtol=1e-6)


def test_padding_of_a_tile_counts_for_nothing_although_the_image_goes_on_there():
    """A box of 20 x 10 px is padded to a square above and below: tokens are 5 px high, the middle two are image."""
    anomaly_map = np.arange(61 * 95, dtype=np.float32).reshape(61, 95)
    box = (30, 20, 50, 30)
    padded = pool_map(anomaly_map, (61, 95), box, (4, 2), tile_xyxy=(0.0, -0.5, 1.0, 1.5))
    np.testing.assert_allclose(padded[1:3], pool_map(anomaly_map, (61, 95), box, (2, 2)), rtol=1e-6)
    assert not padded[[0, 3]].any()


def test_token_that_is_partly_padding_has_the_average_of_its_other_part():
    anomaly_map = np.arange(61 * 95, dtype=np.float32).reshape(61, 95)
    box = (30, 20, 50, 30)
    (row, _) = pool_map(anomaly_map, (61, 95), box, (2, 2), tile_xyxy=(0.0, -0.5, 1.0, 1.5))
    np.testing.assert_allclose(row, pool_map(anomaly_map, (61, 95), box, (2, 2))[0], rtol=1e-6)
