"""EfficientNet-Lite0: padding by hand, then shapes, equivariance and sense with the real weights."""

import pytest
import torch

from velm_train.backbones.efficientnet_lite import EfficientNetLite0, SameConv
from velm_train.backbones.load import load_backbone
from velm_train.backbones.preprocess import resize_batch
from velm_train.core.errors import ConfigError, DataError
from velm_train.core.images import read_rgb

ALL_LAYERS = ["stride4", "stride8", "stride16", "stride32"]


@pytest.fixture(scope="module")
def backbone(assets):
    return load_backbone("efficientnet_lite0", assets=assets)


def noise(height: int, width: int, *, seed: int = 0) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed))


def test_odd_padding_goes_to_the_bottom_and_the_right():
    conv = SameConv(1, 1, kernel=3, stride=2)
    torch.nn.init.ones_(conv.weight)
    # 4 x 6 ones: the windows at the far edges hang one row or column over.
    assert conv(torch.ones(1, 1, 4, 6))[0, 0].tolist() == [[9, 9, 6], [6, 6, 4]]


def test_even_padding_is_symmetric():
    conv = SameConv(1, 1, kernel=3)
    torch.nn.init.ones_(conv.weight)
    assert conv(torch.ones(1, 1, 2, 3))[0, 0].tolist() == [[4, 6, 4], [4, 6, 4]]


def test_model_has_the_published_number_of_parameters():
    # 4.65 million, as the EfficientNet-Lite release notes give for Lite0.
    assert round(sum(parameter.numel() for parameter in EfficientNetLite0().parameters()) / 1e6, 2) == 4.65


def test_layers_have_their_channels_and_strides(backbone):
    maps = backbone.features(noise(64, 96), layers=ALL_LAYERS)
    assert list(maps) == ALL_LAYERS
    for name, info in backbone.layers.items():
        assert maps[name].shape == (2, info.channels, 64 // info.stride, 96 // info.stride)
        assert maps[name].dtype == torch.float32
        assert not maps[name].requires_grad


def test_asking_for_less_gives_the_same_values(backbone):
    images = noise(64, 96)
    every = backbone.features(images, layers=ALL_LAYERS)
    for name in ALL_LAYERS:
        assert torch.equal(backbone.features(images, layers=[name])[name], every[name])


def test_features_are_deterministic_and_do_not_mix_images(backbone):
    images = noise(64, 96)
    both = backbone.features(images, layers=["stride16"])["stride16"]
    assert torch.equal(both, backbone.features(images, layers=["stride16"])["stride16"])
    alone = backbone.features(images[1:], layers=["stride16"])["stride16"]
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-4)


def test_shifted_image_gives_shifted_features(backbone):
    canvas = noise(128, 160)
    first = backbone.features(canvas[..., :96, :128], layers=["stride4"])["stride4"]
    second = backbone.features(canvas[..., 32:, 32:], layers=["stride4"])["stride4"]
    # 32 pixels are 8 cells; 6 cells at every edge feel the padding.
    torch.testing.assert_close(first[..., 14:-6, 14:-6], second[..., 6:-14, 6:-14], rtol=1e-4, atol=1e-4)


def test_weights_are_frozen_and_in_evaluation_mode(backbone):
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    assert not any(module.training for module in backbone.model.modules())


def test_real_weights_recognise_cloth(backbone, assets):
    cloth = read_rgb(assets.ensure("material_photos") / "images" / "fabric_houndstooth.png")
    top_two = backbone.logits(resize_batch([cloth[:896]], (224, 256))).topk(2).indices[0].tolist()
    assert set(top_two) == {533, 911}  # dishrag, wool


@pytest.mark.parametrize(("height", "width"), [(64, 90), (33, 64), (0, 64)])
def test_size_that_is_no_multiple_of_32_is_refused(backbone, height, width):
    with pytest.raises(DataError, match=f"got images of {height}x{width} pixels.*multiples of 32"):
        backbone.features(torch.zeros(1, 3, height, width), layers=["stride4"])


@pytest.mark.parametrize("layers", [["stride2"], []])
def test_unknown_or_no_layer_is_refused(backbone, layers):
    with pytest.raises(ConfigError, match="name at least one of stride4, stride8, stride16, stride32"):
        backbone.features(noise(32, 64), layers=layers)
