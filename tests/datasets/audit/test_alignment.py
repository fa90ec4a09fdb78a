"""Facts about laying one thumbnail onto another."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from velm_train.datasets.audit.alignment import (
    align_coarsely,
    align_finely,
    identity_moves,
    inner,
    move,
    smooth,
    smoothing,
)


@pytest.fixture
def pictures() -> np.ndarray:
    rng = np.random.default_rng(0)
    made = [gaussian_filter(rng.standard_normal((64, 64)), 1.5) for _ in range(3)]
    return np.stack([100 + 200 * one for one in made]).astype(np.float32)


def test_moving_by_nothing_changes_nothing(pictures) -> None:
    np.testing.assert_allclose(move(pictures, identity_moves(3)), pictures, atol=1e-2)


def test_a_shift_of_one_cell_moves_by_one_cell(pictures) -> None:
    moves = identity_moves(3)
    moves[:, 0] = 2 / 64  # coordinates run over 2
    np.testing.assert_allclose(move(pictures, moves)[:, :-1], pictures[:, 1:], atol=1e-2)


def test_smoothing_keeps_what_is_uniform() -> None:
    np.testing.assert_allclose(smoothing(64, sigma=2.0).sum(axis=1), 1.0, atol=1e-5)
    uniform = np.full((1, 64, 64), 7.0, dtype=np.float32)
    np.testing.assert_allclose(smooth(uniform, sigma=0.8), uniform, atol=1e-4)


def test_a_known_move_is_found(pictures) -> None:
    true = np.array([[0.03, 0.97, -0.02, 0.97], [-0.03, 0.97, 0.03, 0.97], [0.0, 1.0, 0.0, 1.0]], dtype=np.float32)
    moved = move(pictures, true)  # what is left after cropping
    found = align_finely(moved, pictures, align_coarsely(moved, pictures))
    np.testing.assert_allclose(found, true, atol=0.004)


def test_brightness_and_contrast_do_not_matter(pictures) -> None:
    found = align_finely(pictures, 0.5 * pictures + 40, align_coarsely(pictures, 0.5 * pictures + 40))
    np.testing.assert_allclose(found, identity_moves(3), atol=0.002)


def test_uniform_pictures_stay_where_they_are() -> None:
    uniform = np.full((2, 64, 64), 50.0, dtype=np.float32)
    found = align_finely(uniform, uniform, align_coarsely(uniform, uniform))
    np.testing.assert_array_equal(found, identity_moves(2))


def test_the_border_is_left_out() -> None:
    assert inner(64) == slice(4, 60)
