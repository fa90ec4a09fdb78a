"""Places of a picture, and maps made even by what good images show there: by hand, and written out cell by cell."""

import numpy as np
import pytest

from velm_train.detectors.places import PlaceYardstick, place_classes


def test_classes_of_a_small_grid_by_hand():
    expected = [
        [0, 1, 1, 1, 1, 1, 0],
        [1, 2, 2, 2, 2, 2, 1],
        [1, 2, 2, 2, 2, 2, 1],
        [1, 2, 2, 2, 2, 2, 1],
        [0, 1, 1, 1, 1, 1, 0],
    ]
    np.testing.assert_array_equal(place_classes((5, 7)), expected)


@pytest.mark.parametrize(("grid_hw", "depth"), [((1, 3), 0), ((3, 9), 0), ((7, 8), 2), ((14, 17), 4), ((60, 40), 5)])
def test_classes_are_symmetric_and_the_inside_comes_last(grid_hw, depth):
    classes = place_classes(grid_hw)
    assert classes.shape == grid_hw
    for same in (classes[::-1], classes[:, ::-1]):
        np.testing.assert_array_equal(same, classes)
    inside = classes[depth : grid_hw[0] - depth, depth : grid_hw[1] - depth]
    assert (inside == classes.max()).all()
    assert (classes == classes.max()).sum() == inside.size >= grid_hw[1] / 3
    assert set(classes.ravel().tolist()) == set(range((depth + 1) * (depth + 2) // 2))


def test_yardstick_is_mean_and_deviation_of_every_class():
    maps = np.random.default_rng(0).gamma(2, size=(6, 11, 14)).astype(np.float32)
    yardstick = PlaceYardstick.of(maps)
    classes = place_classes((11, 14))
    for number in range(classes.max() + 1):
        values = maps[:, classes == number].astype(np.float64)
        assert yardstick.mean[number] == pytest.approx(values.mean())
        assert yardstick.deviation[number] == pytest.approx(values.std())


def test_values_become_what_they_would_be_inside_and_none_is_raised():
    yardstick = PlaceYardstick(mean=np.array([4.0, 1.0, 2.0]), deviation=np.array([2.0, 0.1, 1.0]))
    anomaly_map = np.full((5, 7), 2.0, dtype=np.float32)
    anomaly_map[0, 0], anomaly_map[0, 6], anomaly_map[4, 0], anomaly_map[0, 3] = 10, 4, 0, 1.5
    even = yardstick.even(anomaly_map)
    assert even.dtype == np.float32
    assert (even[0, 0], even[0, 6], even[4, 0], even[4, 6]) == (5, 2, 0, 1)  # 2 + (x - 4) / 2, at least 0, at most x
    assert even[0, 3] == 1.5  # 2 + (1.5 - 1), were it not smaller before
    np.testing.assert_array_equal(even[1:4, 1:6], anomaly_map[1:4, 1:6])


@pytest.mark.parametrize(("edge", "inside", "expected"), [(0.0, 0.0, 8.0), (1.0, 0.0, 2.0), (1.0, 1e-3, 2.0)])
def test_damping_is_limited_and_images_that_are_all_alike_damp_nothing(edge, inside, expected):
    yardstick = PlaceYardstick(mean=np.zeros(3), deviation=np.array([edge, edge, inside]))
    even = yardstick.even(np.full((5, 7), 8.0, dtype=np.float32))
    np.testing.assert_allclose(even[[0, -1]], expected, rtol=1e-6)
    np.testing.assert_array_equal(even[1:-1, 1:-1], 8.0)


def test_noise_that_is_stronger_at_the_edge_has_its_maximum_anywhere_once_made_even():
    rng = np.random.default_rng(1)
    maps = rng.gamma(4, size=(600, 11, 14)).astype(np.float32)
    edge = np.ones((11, 14), dtype=bool)
    edge[1:-1, 1:-1] = False
    maps[:, edge] = 2 * maps[:, edge] + 1
    yardstick = PlaceYardstick.of(maps[:200])

    def share_on_edge(images) -> float:
        return float(np.mean([edge.ravel()[image.argmax()] for image in images]))

    assert share_on_edge(maps[200:]) > 0.95
    assert share_on_edge([yardstick.even(image) for image in maps[200:]]) == pytest.approx(edge.mean(), abs=0.08)
