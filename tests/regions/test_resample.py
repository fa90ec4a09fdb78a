"""Maps on the image's pixels: the same as torch's half-pixel bilinear interpolation."""

import numpy as np
import pytest
import torch

from velm_train.regions.resample import upsample_map


@pytest.mark.parametrize("size_hw", [(30, 56), (31, 53), (5, 8), (3, 4), (1, 90)])
def test_upsampling_equals_torch_without_aligned_corners(size_hw):
    anomaly_map = np.random.default_rng(0).random((5, 8)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(anomaly_map)[None, None], size=size_hw, mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(upsample_map(anomaly_map, size_hw), expected[0, 0].numpy(), atol=1e-6)


def test_equal_size_returns_the_map_itself():
    anomaly_map = np.random.default_rng(0).random((5, 8)).astype(np.float32)
    np.testing.assert_array_equal(upsample_map(anomaly_map, (5, 8)), anomaly_map)
