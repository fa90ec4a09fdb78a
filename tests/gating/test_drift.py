"""Drift of new scores against calibration scores."""

import numpy as np
import pytest

from velm_train.core.errors import GateError
from velm_train.gating.drift import detect_drift


def test_disjoint_scores_have_statistic_one_and_the_exact_p_value():
    report = detect_drift(np.array([5.0, 6.0, 7.0]), np.array([1.0, 2.0, 3.0]), level=0.1)
    assert report.statistic == 1.0
    assert report.p_value == pytest.approx(2 / 20)  # 2 of the C(6, 3) = 20 orders separate the groups
    assert report.num_new == 3
    assert report.drifted


def test_level_decides():
    new, calibration = np.array([5.0, 6.0, 7.0]), np.array([1.0, 2.0, 3.0])
    assert not detect_drift(new, calibration, level=0.05).drifted


def test_unchanged_scores_rarely_drift():
    generator = np.random.default_rng(3)
    reports = [detect_drift(generator.random(40), generator.random(60), level=0.05).drifted for _ in range(400)]
    assert np.mean(reports) < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 400)


def test_shifted_scores_drift():
    generator = np.random.default_rng(4)
    assert detect_drift(generator.random(60) + 0.5, generator.random(60)).drifted


def test_empty_side_and_impossible_level_are_refused():
    with pytest.raises(GateError, match="0 new"):
        detect_drift(np.zeros(0), np.ones(3))
    with pytest.raises(GateError, match="level"):
        detect_drift(np.ones(3), np.ones(3), level=1.0)
