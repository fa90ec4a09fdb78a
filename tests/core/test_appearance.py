"""Whatever lies on a picture moves with it, whichever way it is mirrored or turned, and light moves nothing."""

import itertools

import numpy as np
import pytest

from velm_train.core.appearance import AS_IT_IS, Appearance
from velm_train.core.images import cut_out

HEIGHT, WIDTH = 5, 7
BOX = (1, 0, 4, 2)
CONTOUR = np.array([[1, 0], [3, 0], [3, 1], [0, 4], [6, 4]], dtype=np.int32)
EIGHT = [Appearance(mirrored=mirrored, quarter_turns=turns) for mirrored in (False, True) for turns in range(4)]
ALL_WAYS = pytest.mark.parametrize("appearance", EIGHT, ids=str)


@pytest.fixture
def image() -> np.ndarray:
    """Every value once, so that no two ways look alike."""
    return np.arange(HEIGHT * WIDTH * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3)


def inverse(appearance: Appearance) -> Appearance:
    """Mirroring and any turns after it undo themselves; turns alone are undone by the rest of a full one."""
    turns = appearance.quarter_turns if appearance.mirrored else -appearance.quarter_turns % 4
    return Appearance(mirrored=appearance.mirrored, quarter_turns=turns)


def test_picture_as_it_is_is_the_picture_itself(image: np.ndarray) -> None:
    assert AS_IT_IS.picture(image) is image
    assert not AS_IT_IS.moves
    assert AS_IT_IS.box_xyxy(BOX, (HEIGHT, WIDTH)) == BOX
    assert np.array_equal(AS_IT_IS.contour(CONTOUR, (HEIGHT, WIDTH)), CONTOUR)


def test_places_by_hand() -> None:
    mirrored, turned = Appearance(mirrored=True), Appearance(quarter_turns=1)
    assert mirrored.box_xyxy((1, 0, 4, 2), (5, 7)) == (3, 0, 6, 2)
    assert mirrored.contour(np.array([[1, 0], [6, 4]]), (5, 7)).tolist() == [[5, 0], [0, 4]]
    # Counter-clockwise, the right edge becomes the top: columns count as rows from the bottom.
    assert turned.size_hw((5, 7)) == (7, 5)
    assert turned.box_xyxy((1, 0, 4, 2), (5, 7)) == (0, 3, 2, 6)
    assert turned.contour(np.array([[1, 0], [6, 4]]), (5, 7)).tolist() == [[0, 5], [4, 0]]


def test_turn_is_counter_clockwise_and_follows_the_mirror() -> None:
    rows = np.array([[1, 2, 3], [4, 5, 6]])
    assert Appearance(quarter_turns=1).plane(rows).tolist() == [[3, 6], [2, 5], [1, 4]]
    assert Appearance(mirrored=True, quarter_turns=2).plane(rows).tolist() == [[4, 5, 6], [1, 2, 3]]


def test_eight_ways_differ(image: np.ndarray) -> None:
    pictures = [appearance.picture(image) for appearance in EIGHT]
    assert not any(np.array_equal(one, other) for one, other in itertools.combinations(pictures, 2))


@ALL_WAYS
def test_box_of_the_moved_picture_holds_the_moved_box(image: np.ndarray, appearance: Appearance) -> None:
    moved = appearance.picture(image)
    assert moved.shape[:2] == appearance.size_hw((HEIGHT, WIDTH))
    inside = cut_out(moved, appearance.box_xyxy(BOX, (HEIGHT, WIDTH)))
    assert np.array_equal(inside, appearance.plane(cut_out(image, BOX)))


@ALL_WAYS
def test_outline_stays_on_its_pixels(image: np.ndarray, appearance: Appearance) -> None:
    moved = appearance.picture(image)
    for (x, y), (new_x, new_y) in zip(CONTOUR, appearance.contour(CONTOUR, (HEIGHT, WIDTH)), strict=True):
        assert np.array_equal(moved[new_y, new_x], image[y, x])


@ALL_WAYS
def test_mask_and_map_of_another_resolution_move_alike(appearance: Appearance) -> None:
    gt_mask = np.zeros((HEIGHT * 2, WIDTH * 2), dtype=np.bool_)
    gt_mask[0:4, 2:8] = True  # the box at twice the resolution
    anomaly_map = gt_mask[::2, ::2].astype(np.float32)
    x0, y0, x1, y1 = appearance.box_xyxy(BOX, (HEIGHT, WIDTH))
    moved = appearance.plane(gt_mask)
    assert moved.sum() == 24
    assert moved[2 * y0 : 2 * y1, 2 * x0 : 2 * x1].all()
    assert np.array_equal(appearance.plane(anomaly_map), moved[::2, ::2])


@ALL_WAYS
def test_way_and_its_inverse_change_nothing(image: np.ndarray, appearance: Appearance) -> None:
    back, size_hw = inverse(appearance), appearance.size_hw((HEIGHT, WIDTH))
    assert np.array_equal(back.picture(appearance.picture(image)), image)
    assert back.size_hw(size_hw) == (HEIGHT, WIDTH)
    assert back.box_xyxy(appearance.box_xyxy(BOX, (HEIGHT, WIDTH)), size_hw) == BOX
    assert np.array_equal(back.contour(appearance.contour(CONTOUR, (HEIGHT, WIDTH)), size_hw), CONTOUR)


def test_light_by_hand() -> None:
    image = np.array([[[0, 100, 200], [100, 100, 100]]], dtype=np.uint8)  # mean 100
    assert Appearance(contrast=1.1).picture(image)[0, 0].tolist() == [0, 100, 210]  # -10 is cut off
    assert Appearance(brightness=1.3).picture(image)[0, 0].tolist() == [0, 130, 255]  # 260 is cut off
    assert Appearance(contrast=0.5, brightness=0.9).picture(image)[0, 0].tolist() == [45, 90, 135]


def test_light_keeps_places_and_outlines_have_no_light() -> None:
    lit = Appearance(brightness=1.2, contrast=0.8)
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert not lit.moves
    assert np.array_equal(lit.plane(values), values)


def test_empty_outline_stays_empty() -> None:
    none = np.zeros((0, 2), dtype=np.int32)
    assert Appearance(mirrored=True, quarter_turns=1).contour(none, (HEIGHT, WIDTH)).shape == (0, 2)
