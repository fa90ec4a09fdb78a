"""Facts about the search over all pairs."""

import numpy as np
import pytest

from velm_train.datasets.audit.candidates import ORIENTATIONS, coefficients, find_candidates, orient


@pytest.fixture
def thumbnails() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 64, 64)).astype(np.uint8)


def test_coefficients_are_those_of_the_cosine_transform(thumbnails) -> None:
    picture = thumbnails[0].astype(np.float64)
    places = (np.arange(64) + 0.5) * np.pi / 64
    expected = sum(
        picture[y, x] * np.cos(3 * places[y]) * np.cos(5 * places[x]) for y in range(64) for x in range(64)
    ) / (64 * 64 * picture.std())
    assert coefficients(thumbnails)[0, 3, 5] == pytest.approx(expected, rel=1e-3)


def test_the_constant_part_does_not_count(thumbnails) -> None:
    np.testing.assert_array_equal(coefficients(thumbnails)[:, 0, 0], 0.0)


@pytest.mark.parametrize("orientation", range(ORIENTATIONS))
def test_every_orientation_of_a_copy_is_found_and_named(thumbnails, orientation: int) -> None:
    turned = orient(thumbnails[4:5], orientation)
    images = np.concatenate([thumbnails, turned])
    sides = np.array([0] * 20 + [1])
    (found,) = find_candidates(
        images,
        categories=np.zeros(21, dtype=np.int64),
        wanted=np.array([[False, False], [True, False]]),
        sides=sides,
        num_nearest=1,
    )
    assert (found.first.tolist(), found.second.tolist(), found.num_asked) == ([20], [4], 21)
    np.testing.assert_array_equal(orient(thumbnails[4:5], int(found.orientation[0])), turned)


def test_images_without_a_category_ask_for_nothing(thumbnails) -> None:
    candidates = find_candidates(
        np.concatenate([thumbnails, thumbnails]),
        categories=np.array([-1] * 20 + [0] * 20),
        wanted=np.array([[True, True], [True, True]]),
        sides=np.array([0] * 20 + [1] * 20),
        num_nearest=1,
    )
    assert all((found.first >= 20).all() for found in candidates)
