"""Pictures for people: sizes, colours and places, on images that are not square."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from velm_train.reporting.figures import (
    CONTOUR_RGB,
    HALO_RGB,
    colour_map,
    draw_boxes,
    draw_contours,
    example_pictures,
    heatmap_overlay,
    jpeg_data_uri,
    look_picture,
    outlined_thumbnail,
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


def test_missed_image_has_no_crop_and_is_not_called_an_outline(image):
    pictures = example_pictures(
        image, anomaly_map=np.ones((6, 10), dtype=np.float32), low=0.1, high=2.0, contours=[], crop_box_xyxy=None
    )
    assert [picture.caption for picture in pictures] == ["image", "heatmap"]
    assert (pictures[0].rgb == image).all()


def test_map_that_marks_nothing_is_not_drawn(image):
    blank = np.full((6, 10), 0.1, dtype=np.float32)
    pictures = example_pictures(image, anomaly_map=blank, low=0.2, high=2.0, contours=[], crop_box_xyxy=None)
    assert [picture.caption for picture in pictures] == ["image"]


def test_region_that_is_the_whole_image_is_said_and_not_shown_twice(image):
    contour = np.array([(20, 10), (80, 10), (80, 40), (20, 40)])
    anomaly_map = np.ones((6, 10), dtype=np.float32)
    captions = [
        [
            picture.caption
            for picture in example_pictures(
                image, anomaly_map=anomaly_map, low=0.1, high=2.0, contours=contours, crop_box_xyxy=box
            )
        ]
        for contours, box in (([], (0, 0, 100, 60)), ([contour], (0, 0, 100, 60)), ([], (0, 0, 99, 60)))
    ]
    assert captions == [["whole image", "heatmap"], ["outline", "heatmap", "crop"], ["image", "heatmap", "crop"]]


def rectangle(rows, columns, *, size_hw=(60, 100)):
    gt_mask = np.zeros(size_hw, dtype=np.bool_)
    gt_mask[slice(*rows), slice(*columns)] = True
    return gt_mask


def test_line_runs_around_the_mask_and_leaves_its_inside_to_be_seen(image):
    before = image.copy()
    small = outlined_thumbnail(image, rectangle((20, 40), (30, 60)), max_side_px=50)
    assert small.shape == (30, 50, 3)  # the mask lies on rows 10 to 19 and columns 15 to 29
    clear, line, halo = (90, 90, 90), CONTOUR_RGB, HALO_RGB
    down = [tuple(int(value) for value in small[y, 20]) for y in range(4, 26)]
    assert down == [*2 * [clear], halo, *2 * [line], *12 * [clear], *2 * [line], halo, *2 * [clear]]
    across = [tuple(int(value) for value in small[15, x]) for x in range(10, 36)]
    assert across == [clear, halo, *2 * [line], *17 * [clear], *2 * [line], halo, *2 * [clear]]
    assert (image == before).all()


def test_mask_of_one_pixel_gets_a_ring_in_a_much_smaller_picture():
    image = np.full((900, 1600, 3), 90, dtype=np.uint8)
    small = outlined_thumbnail(image, rectangle((450, 451), (800, 801), size_hw=(900, 1600)), max_side_px=160)
    rows, columns = np.nonzero((small == CONTOUR_RGB).all(axis=-1))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (42, 48, 77, 83)
    assert tuple(small[45, 80]) == (90, 90, 90)


def test_blank_mask_draws_nothing(image):
    assert (outlined_thumbnail(image, np.zeros((60, 100), dtype=np.bool_), max_side_px=100) == image).all()


def test_line_of_a_mask_at_the_edge_stays_in_the_picture(image):
    small = outlined_thumbnail(image, rectangle((0, 10), (0, 10)), max_side_px=100)
    assert tuple(small[5, 11]) == CONTOUR_RGB
    assert tuple(small[5, 5]) == tuple(small[0, 0]) == (90, 90, 90)
    assert tuple(small[59, 99]) == (90, 90, 90)


def test_second_look_is_drawn_in_the_view_at_its_own_scale(image):
    seen = look_picture(image, view_box_xyxy=(20, 10, 100, 50), cells_xyxy=[(60, 20, 80, 30)] * 2, max_side_px=40)
    assert seen.rgb.shape == (20, 40, 3)
    outlined = np.argwhere((seen.rgb == CONTOUR_RGB).all(axis=-1))
    assert outlined.min(axis=0).tolist() == [5, 20]
    assert outlined.max(axis=0).tolist() == [9, 29]
    assert "1 cell outlined" in seen.alt
