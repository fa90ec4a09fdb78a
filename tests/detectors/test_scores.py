"""Scores are read off the smoothed map, by hand."""

import numpy as np
import pytest

from velm_train.detectors.scores import score_map, smoothed

DISTANCES = np.array([[0, 0, 0, 0, 0], [0, 0, 8, 0, 4], [0, 0, 0, 0, 0]], dtype=np.float32)


@pytest.mark.parametrize(("top_fraction", "expected"), [(0.0, 8.0), (2 / 15, 6.0), (1.0, 0.8)])
def test_score_is_the_mean_of_the_largest_values(top_fraction, expected):
    detection = score_map(DISTANCES, smoothing_sigma=0.0, top_fraction=top_fraction)
    assert detection.anomaly_score == pytest.approx(expected)
    np.testing.assert_array_equal(detection.anomaly_map, DISTANCES)


def test_smoothing_comes_before_the_score_and_keeps_the_edge():
    detection = score_map(DISTANCES, smoothing_sigma=0.7, top_fraction=0.0)
    assert detection.anomaly_score == detection.anomaly_map.max() < 8
    assert detection.anomaly_map.dtype == np.float32
    even = score_map(np.full((3, 5), 2, dtype=np.float32), smoothing_sigma=2.0, top_fraction=0.0)
    np.testing.assert_allclose(even.anomaly_map, 2.0, rtol=1e-6)


def test_beyond_the_edge_a_map_counts_as_its_own_median():
    maps = np.random.default_rng(0).gamma(2, size=(3, 9, 12)).astype(np.float32)
    kernel = np.exp(-(np.arange(-4, 5) ** 2) / 2)
    kernel /= kernel.sum()
    found = smoothed(maps, 1.0)
    for image, one in zip(maps, found, strict=True):
        padded = np.pad(image, 4, constant_values=np.median(image))
        expected = [[kernel @ padded[r : r + 9, c : c + 9] @ kernel for c in range(12)] for r in range(9)]
        np.testing.assert_allclose(one, expected, rtol=1e-5)
        np.testing.assert_allclose(smoothed(image, 1.0), one, rtol=1e-6)


def test_smoothed_noise_has_its_maximum_on_the_edge_no_more_often_than_edge_cells_are_many():
    noise = np.random.default_rng(1).gamma(4, size=(600, 14, 17)).astype(np.float32)
    edge = np.ones((14, 17), dtype=bool)
    edge[1:-1, 1:-1] = False
    share = np.mean([edge.ravel()[one.argmax()] for one in smoothed(noise, 1.0)])
    assert 0.5 * edge.mean() < share < 1.2 * edge.mean()


def test_a_large_defect_does_not_raise_the_edge_around_the_picture():
    background = np.full((9, 12), 0.2, dtype=np.float32)
    with_defect = background.copy()
    with_defect[2:7, 5:10] = 1.0  # nearly a quarter of the cells
    before, after = smoothed(background, 1.0), smoothed(with_defect, 1.0)
    np.testing.assert_allclose(after[:, 0], before[:, 0], rtol=1e-3)
