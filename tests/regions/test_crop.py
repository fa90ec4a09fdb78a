"""Square crops around a region: inside the image, around the region, as large as wanted where possible."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from velm_train.core.errors import DataError
from velm_train.regions.crop import crop_box


def test_margin_widens_the_longer_side_on_both_ends():
    assert crop_box((100, 50, 120, 60), (200, 300), margin_fraction=0.5, min_size_px=1) == (90, 35, 130, 75)


def test_minimum_size_rules_small_regions():
    assert crop_box((100, 50, 104, 52), (200, 300), margin_fraction=0.5, min_size_px=64) == (70, 19, 134, 83)


def test_box_at_the_edge_is_shifted_not_shrunk():
    assert crop_box((290, 0, 300, 10), (200, 300), margin_fraction=0.0, min_size_px=64) == (236, 0, 300, 64)


def test_margin_gives_way_before_the_square_shape():
    assert crop_box((10, 10, 110, 60), (120, 300), margin_fraction=1.0, min_size_px=1) == (0, 0, 120, 120)


def test_region_longer_than_the_short_side_takes_the_whole_short_side():
    assert crop_box((10, 40, 260, 50), (120, 300), margin_fraction=0.2, min_size_px=1) == (10, 0, 260, 120)


def test_whole_image_box_stays_the_whole_image():
    assert crop_box((0, 0, 300, 120), (120, 300), margin_fraction=0.2, min_size_px=64) == (0, 0, 300, 120)


def test_region_outside_the_image_is_refused():
    with pytest.raises(DataError, match="120x300"):
        crop_box((0, 0, 301, 120), (120, 300), margin_fraction=0.2, min_size_px=64)


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_crop_holds_its_region_and_lies_in_the_image(data):
    height, width = data.draw(st.integers(1, 400)), data.draw(st.integers(1, 400))
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    margin_fraction, min_size_px = data.draw(st.floats(0, 3)), data.draw(st.integers(1, 500))
    box = crop_box((x0, y0, x1, y1), (height, width), margin_fraction=margin_fraction, min_size_px=min_size_px)

    assert 0 <= box[0] <= x0 < x1 <= box[2] <= width
    assert 0 <= box[1] <= y0 < y1 <= box[3] <= height
    longer, shorter = max(x1 - x0, y1 - y0), min(height, width)
    if longer <= shorter:
        wanted = max(math.ceil(longer * (1 + 2 * margin_fraction)), min_size_px)
        assert box[2] - box[0] == box[3] - box[1] == min(wanted, shorter)
