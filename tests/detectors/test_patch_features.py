"""Patch features: neighbourhood average, common grid, layer scales."""

import numpy as np
import pytest
import torch

from velm_train.backbones.preprocess import resize_batch
from velm_train.core.errors import ConfigError
from velm_train.detectors.patch_features import PatchExtractor


def extractor(backbone, layers, **changes) -> PatchExtractor:
    arguments = {"input_hw": (48, 80), "batch_size": 4, "device": torch.device("cpu"), "half_precision": False}
    return PatchExtractor(backbone, layers=layers, **{**arguments, **changes})


def test_patches_are_means_over_three_by_three_neighbours_without_zeros_at_the_edge(make_backbone, good_images):
    backbone = make_backbone(0)
    maps = backbone.features(resize_batch(good_images[:2], (48, 80)), layers=["first"])["first"].numpy()
    patches = extractor(backbone, ["first"])(good_images[:2])
    assert patches.grid_hw == (12, 20)
    assert patches.values.shape == (2, 240, 6)
    inner, corner = maps[1, :, 4:7, 8:11].mean(axis=(1, 2)), maps[1, :, :2, :2].mean(axis=(1, 2))
    np.testing.assert_allclose(patches.values[1, 5 * 20 + 9].numpy(), inner, atol=1e-6)
    np.testing.assert_allclose(patches.values[1, 0].numpy(), corner, atol=1e-6)


def test_coarser_layer_is_brought_to_the_finest_grid_in_any_order(make_backbone, good_images):
    backbone = make_backbone(0)
    forward = extractor(backbone, ["first", "second"])(good_images[:1])
    backward = extractor(backbone, ["second", "first"])(good_images[:1])
    assert forward.grid_hw == backward.grid_hw == (12, 20)
    assert torch.equal(forward.values[..., :6], backward.values[..., 10:])
    assert torch.equal(forward.values[..., 6:], backward.values[..., :10])


def test_scales_give_every_layer_a_mean_norm_of_one(make_backbone, good_images):
    extract = extractor(make_backbone(0), ["first", "second"])
    values = extract(good_images).values
    scales = extract.channel_scales(extract.mean_norms(values))
    np.testing.assert_allclose(extract.mean_norms(values * scales).mean(dim=0).numpy(), [1, 1], rtol=1e-5)
    assert float(scales[0]) > 10 * float(scales[-1])  # the second layer is fifty times as large


def test_images_of_several_sizes_share_a_batch(make_backbone, good_images):
    images = [good_images[0], good_images[1][:40, :70]]
    assert extractor(make_backbone(0), ["first"])(images).values.shape == (2, 240, 6)


def test_batches_cover_all_images_in_order(make_backbone, good_images):
    batches = extractor(make_backbone(0), ["first"], batch_size=4).batches(good_images)
    assert [index for batch in batches for index in batch] == list(range(6))


@pytest.mark.parametrize("layers", [["third"], []])
def test_unknown_layers_are_refused(make_backbone, layers):
    with pytest.raises(ConfigError, match=r"first.*second"):
        extractor(make_backbone(0), layers)
