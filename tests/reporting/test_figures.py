"""Pictures for people: sizes, colours and places, on images that are not square."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from velm_train.reporting.figures import (
    CONTOUR_RGB,
    colour_map,
    draw_boxes,
    draw_contours,
    example_pictures,
    heatmap_overlay,
    jpeg_data_uri,
    png_data_uri,
    thumbnail,
)


@pytest.fixture
def image():
    return np.full((60, 100, 3), 90, dtype=np.uint8)


def test_colours_rise_in_lightness_and_are_clipped():
    values = np.linspace(-0.5, 1.5, 21)[None, :]
    lightness = colour_map(values)[0].astype(float) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) >= -0.5).all()
    assert (colour_map(np.array([[0.0]])) == colour_map(np.array([[-3.0]]))).all()


def test_values_at_or_below_low_leave_the_image_clear(image):
    overlay = heatmap_overlay(image, np.full((6, 10), 0.5, dtype=np.float32), low=0.5, high=2.0)
    assert (overlay == image).all()


def test_heat_lies_where_the_map_is_high(image):
    anomaly_map = np.zeros((6, 10), dtype=np.float32)
    anomaly_map[1, 8] = 3.0
    changed = (heatmap_overlay(image, anomaly_map, low=0.5, high=2.0) != image).any(axis=-1)
    rows, columns = np.nonzero(changed)
    assert 10 <= rows.mean() < 20
    assert 80 <= columns.mean() < 90
    assert not changed[:, :60].any()


def test_outline_is_drawn_at_its_points_and_leaves_the_input_alone(image):
    contour = np.array([(20, 10), (80, 10), (80, 40), (20, 40)])
    before = image.copy()
    drawn = draw_contours(image, [contour])
    assert tuple(drawn[10, 50]) == CONTOUR_RGB
    assert tuple(drawn[25, 20]) == CONTOUR_RGB
    assert tuple(drawn[25, 50]) == (90, 90, 90)
    assert (image == before).all()


def test_empty_outline_draws_nothing(image):
    assert (draw_contours(image, [np.zeros((0, 2), dtype=np.int64)]) == image).all()


def test_box_is_half_open(image):
    drawn = draw_boxes(image, [(10, 5, 31, 21)], width_px=1)
    assert tuple(drawn[20, 20]) == CONTOUR_RGB
    assert tuple(drawn[12, 30]) == CONTOUR_RGB


@pytest.mark.parametrize(("max_side_px", "size"), [(50, (30, 50)), (200, (60, 100))])
def test_thumbnail_keeps_the_ratio_and_never_enlarges(image, max_side_px, size):
    assert thumbnail(image, max_side_px=max_side_px).shape[:2] == size


def test_png_uri_is_lossless_and_jpeg_uri_keeps_the_size():
    noise = np.random.default_rng(0).integers(0, 255, (13, 21, 3), dtype=np.uint8)

    def decoded(uri):
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))

    assert (decoded(png_data_uri(noise)) == noise).all()
    uri = jpeg_data_uri(noise)
    assert uri.startswith("data:image/jpeg;base64,")
    assert decoded(uri).shape == noise.shape


def test_example_has_outline_heatmap_and_crop_with_words(image):
    contour = np.array([(20, 10), (80, 10), (80, 40), (20, 40)])
    pictures = example_pictures(
        image,
        anomaly_map=np.ones((6, 10), dtype=np.float32),
        low=0.1,
        high=2.0,
        contours=[contour],
        crop_box_xyxy=(20, 10, 80, 40),
        max_side_px=50,
    )
    assert [picture.caption for picture in pictures] == ["outline", "heatmap", "crop"]
    assert [picture.rgb.shape[:2] for picture in pictures] == [(30, 50), (30, 50), (25, 50)]
    assert tuple(pictures[0].rgb[5, 25]) == CONTOUR_RGB
    assert all(picture.alt for picture in pictures)


def test_missed_image_has_no_crop(image):
    pictures = example_pictures(
        image, anomaly_map=np.ones((6, 10), dtype=np.float32), low=0.1, high=2.0, contours=[], crop_box_xyxy=None
    )
    assert [picture.caption for picture in pictures] == ["outline", "heatmap"]
    assert (pictures[0].rgb == image).all()
