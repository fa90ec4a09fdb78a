"""Turned copies: exact for half and quarter turns, mirrored at the edge, in a known order."""

import numpy as np

from velm_train.detectors.rotations import TurnedCopies, turned


def picture(height: int = 24, width: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_half_turn_equals_both_axes_reversed():
    image = picture()
    np.testing.assert_allclose(turned(image, degrees=180).astype(int), image[::-1, ::-1].astype(int), atol=1)


def test_quarter_turn_goes_counter_clockwise_and_keeps_the_scale():
    image = picture()
    middle = turned(image, degrees=90)[:, 8:32].astype(int)  # the square in the middle turns onto itself
    np.testing.assert_allclose(middle, np.rot90(image[:, 8:32]).astype(int), atol=1)


def test_outside_is_mirrored_not_black():
    assert turned(np.full((24, 40, 3), 200, dtype=np.uint8), degrees=45).min() == 200


def test_copies_of_one_picture_stand_side_by_side_with_the_unturned_first():
    images = [picture(), picture(20, 30)]
    copies = TurnedCopies(images, num_rotations=4)
    assert len(copies) == 8
    np.testing.assert_array_equal(copies[4], images[1])
    np.testing.assert_array_equal(copies[6], turned(images[1], degrees=180))
    np.testing.assert_array_equal(copies[-1], turned(images[1], degrees=270))
    assert [one.shape for one in copies[3:5]] == [(24, 40, 3), (20, 30, 3)]
    np.testing.assert_array_equal(TurnedCopies(images, num_rotations=1)[1], images[1])
