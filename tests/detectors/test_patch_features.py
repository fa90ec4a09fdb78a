"""Patch features: neighbourhood average, common grid, layer scales."""

import threading
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from velm_train.backbones.preprocess import resize_batch
from velm_train.core.errors import ConfigError, DataError
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


class WatchedImages(Sequence):
    """Pictures that note which of them the reading threads have read; the check of types reads one at random."""

    def __init__(self, images) -> None:
        self.images, self.read = images, set()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index):
        if threading.current_thread() is not threading.main_thread():
            self.read.add(index)
            if self.images[index].max() == 0:
                raise DataError("image cannot be read")
        return self.images[index]


def test_stream_gives_every_batch_and_reads_one_ahead(make_backbone, good_images):
    extract = extractor(make_backbone(0), ["first"], batch_size=2)
    images = WatchedImages([*good_images, *good_images[:3]])
    parts = []
    for number, batch in enumerate(extract.stream(images)):
        parts.append(batch.values)
        assert images.read <= set(range(2 * number + 4))
    assert torch.equal(torch.cat(parts), torch.cat([extract(images.images[i : i + 2]).values for i in range(0, 9, 2)]))


def test_stream_of_nothing_is_empty(make_backbone):
    assert list(extractor(make_backbone(0), ["first"]).stream([])) == []


def test_stream_passes_on_what_reading_raises(make_backbone, good_images):
    images = WatchedImages([*good_images, np.zeros_like(good_images[0])])
    stream = extractor(make_backbone(0), ["first"], batch_size=2).stream(images)
    assert [len(next(stream).values) for _ in range(3)] == [2, 2, 2]
    with pytest.raises(DataError, match="cannot be read"):
        next(stream)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(make_backbone, good_images, value):
    backbone = make_backbone(0)
    backbone.second.bias.data[3] = value
    backbone.features = lambda images, layers: {"second": backbone.second(torch.tanh(backbone.first(images)))}
    with pytest.raises(DataError, match="not finite"):
        extractor(backbone, ["second"])(good_images)


def test_layer_that_is_zero_everywhere_is_refused(make_backbone):
    extract = extractor(make_backbone(0), ["first", "second"])
    with pytest.raises(DataError, match="zero on every image"):
        extract.layer_scales(torch.tensor([[1.0, 0.0], [2.0, 0.0]]))


def test_own_scales_leave_out_a_layer_that_is_zero(make_backbone):
    extract = extractor(make_backbone(0), ["first", "second"])
    assert extract.own_scales(torch.tensor([0.0, 4.0], dtype=torch.float64)).tolist() == [0.0, 0.25]
