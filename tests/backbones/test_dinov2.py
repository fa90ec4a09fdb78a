"""DINOv2 as a backbone equals the model it wraps, written out."""

import pytest
import torch
from transformers import Dinov2Model

from velm_train.backbones.load import load_backbone
from velm_train.core.errors import ConfigError, DataError

ALL_LAYERS = ["block3", "block6", "block9", "block12", "final"]


@pytest.fixture(scope="module")
def backbone(assets):
    return load_backbone("dinov2_small", assets=assets)


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 56, 84, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def maps(backbone, images):
    return backbone.features(images, layers=ALL_LAYERS)


def test_maps_have_the_grid_of_patches(backbone, maps):
    assert list(backbone.layers) == list(maps) == ALL_LAYERS
    for name, info in backbone.layers.items():
        assert (info.channels, info.stride) == (384, 14)
        assert maps[name].shape == (2, 384, 4, 6)
        assert maps[name].dtype == torch.float32
        assert not maps[name].requires_grad


def test_final_equals_a_direct_call_token_by_token(assets, images, maps):
    model = Dinov2Model.from_pretrained(assets.ensure("dinov2_small"), local_files_only=True).eval()
    normalised = images.clone()
    for channel, (mean, std) in enumerate([(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]):
        normalised[:, channel] = (images[:, channel] - mean) / std
    with torch.no_grad():
        tokens = model(pixel_values=normalised).last_hidden_state  # (2, 1 + 24, 384)
    for row in range(4):
        for column in range(6):
            expected = tokens[:, 1 + 6 * row + column]
            torch.testing.assert_close(maps["final"][:, :, row, column], expected, rtol=1e-4, atol=1e-4)


def test_each_block_is_what_the_next_one_reads(backbone, images, maps):
    read = {}
    hooks = [
        backbone.model.encoder.layer[depth].register_forward_pre_hook(
            lambda _, arguments, depth=depth: read.update({depth: arguments[0]})
        )
        for depth in (3, 6, 9)
    ]
    hooks.append(
        backbone.model.layernorm.register_forward_pre_hook(lambda _, arguments: read.update({12: arguments[0]}))
    )
    backbone.features(images, layers=["final"])
    for hook in hooks:
        hook.remove()
    for depth, tokens in read.items():
        expected = tokens[:, 1:].reshape(2, 4, 6, 384).permute(0, 3, 1, 2)
        torch.testing.assert_close(maps[f"block{depth}"], expected)
    assert set(read) == {3, 6, 9, 12}


def test_features_are_deterministic(backbone, images, maps):
    again = backbone.features(images, layers=["block6"])
    assert list(again) == ["block6"]
    assert torch.equal(again["block6"], maps["block6"])


def test_weights_are_frozen_and_in_evaluation_mode(backbone):
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    assert not any(module.training for module in backbone.model.modules())


def test_size_that_is_no_multiple_of_14_is_refused(backbone):
    with pytest.raises(DataError, match=r"got images of 56x80 pixels.*multiples of 14: resize to 56x84"):
        backbone.features(torch.zeros(1, 3, 56, 80), layers=["final"])


def test_unknown_layer_is_refused(backbone, images):
    with pytest.raises(ConfigError, match=r"unknown \['block4'\]"):
        backbone.features(images, layers=["block3", "block4"])
