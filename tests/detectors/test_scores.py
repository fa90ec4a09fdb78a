"""Scores are read off the smoothed map, by hand."""

import numpy as np
import pytest

from velm_train.detectors.scores import score_map

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
