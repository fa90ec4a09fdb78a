"""The pixel threshold: a rate over cells of normal maps."""

import numpy as np
import pytest

from velm_train.core.errors import GateError
from velm_train.gating.pixel import pixel_threshold


def test_threshold_leaves_the_asked_share_of_cells_above():
    maps = [np.arange(12, dtype=np.float32).reshape(3, 4), np.arange(12, 20, dtype=np.float32).reshape(2, 4)]
    assert pixel_threshold(maps, pixel_alpha=0.1) == 17.0  # 18 and 19 of 20 cells are above


def test_ties_never_exceed_the_share():
    values = np.array([[1, 1, 1, 2, 2, 2, 2, 3, 3, 3]], dtype=np.float32)
    threshold = pixel_threshold([values], pixel_alpha=0.4)
    assert threshold == 2.0
    assert (values > threshold).mean() <= 0.4


def test_random_maps_hold_the_share_exactly():
    maps = [np.random.default_rng(seed).random((7, 11)).astype(np.float32) for seed in range(13)]
    for pixel_alpha in (0.001, 0.01, 0.05, 0.3):
        threshold = pixel_threshold(maps, pixel_alpha=pixel_alpha)
        num_above = sum(int((one > threshold).sum()) for one in maps)
        assert num_above == int(pixel_alpha * 13 * 77 + 1e-9)


@pytest.mark.parametrize("pixel_alpha", [0.0, 1.0, -1.0])
def test_share_outside_the_unit_interval_is_refused(pixel_alpha):
    with pytest.raises(GateError, match="pixel_alpha"):
        pixel_threshold([np.ones((2, 3), dtype=np.float32)], pixel_alpha=pixel_alpha)


def test_unreachable_share_and_no_maps_are_refused():
    with pytest.raises(GateError, match="below 1/6"):
        pixel_threshold([np.ones((2, 3), dtype=np.float32)], pixel_alpha=0.1)
    with pytest.raises(GateError, match="0 anomaly maps"):
        pixel_threshold([], pixel_alpha=0.1)
