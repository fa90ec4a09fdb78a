"""Scores of a batch of images against a bank, against the steps written out."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from velm_train.detectors.bank_scores import score_patches
from velm_train.detectors.neighbours import MemoryBank
from velm_train.detectors.patch_features import PatchFeatures
from velm_train.detectors.settings import PatchCoreSettings


@pytest.mark.parametrize("sigma", [0.0, 1.5])
def test_maps_are_smoothed_each_for_itself_and_the_score_is_their_largest_value(sigma):
    generator = np.random.default_rng(0)
    values = generator.standard_normal((3, 28, 5)).astype(np.float32)
    vectors = generator.standard_normal((40, 5)).astype(np.float32)
    found = score_patches(
        PatchFeatures(values=torch.from_numpy(values), grid_hw=(4, 7)),
        MemoryBank(torch.from_numpy(vectors), channels=[5]),
        settings=PatchCoreSettings(layers=("one",), input_hw=(8, 14), smoothing_sigma=sigma),
        scales=torch.ones(1),
    )
    assert len(found) == 3
    for image, detection in zip(values, found, strict=True):
        expected = np.linalg.norm(image[:, None] - vectors[None], axis=2).min(axis=1).reshape(4, 7)
        if sigma > 0:
            expected = gaussian_filter(expected, sigma, mode="constant", cval=float(np.median(expected)))
        np.testing.assert_allclose(detection.anomaly_map, expected, rtol=1e-4)
        assert detection.anomaly_score == pytest.approx(expected.max(), rel=1e-4)
