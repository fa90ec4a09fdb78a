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


@pytest.fixture(scope="module")
def direct(assets, images):
    model = Dinov2Model.from_pretrained(assets.ensure("dinov2_small"), local_files_only=True).eval()
    normalised = images.clone()
    for channel, (mean, std) in enumerate([(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]):
        normalised[:, channel] = (images[:, channel] - mean) / std
    with torch.no_grad():
        output = model(pixel_values=normalised, output_hidden_states=True)
    blocks = {f"block{depth}": output.hidden_states[depth] for depth in (3, 6, 9, 12)}  # 0 is the embeddings
    return {**blocks, "final": output.last_hidden_state}  # (2, 1 + 24, 384)


@pytest.mark.parametrize("layer", ALL_LAYERS)
def test_layer_equals_a_direct_call_token_by_token(direct, maps, layer):
    for row in range(4):
        for column in range(6):
            assert torch.equal(maps[layer][:, :, row, column], direct[layer][:, 1 + 6 * row + column])


@pytest.mark.parametrize("layer", ALL_LAYERS)
def test_layer_is_the_same_alone_and_among_others(backbone, images, maps, layer):
    alone = backbone.features(images, layers=[layer])
    assert list(alone) == [layer]
    assert torch.equal(alone[layer], maps[layer])


@pytest.mark.parametrize(
    ("layers", "depth"),
    [(["block3"], 3), (["block6", "block3"], 6), (["block9"], 9), (["block12"], 12), (["block3", "final"], 12)],
)
def test_blocks_behind_the_deepest_layer_do_not_run(backbone, images, layers, depth):
    ran = []
    hooks = [
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
        for number, block in enumerate(backbone.model.encoder.layer, start=1)
    ]
    assert list(backbone.features(images, layers=layers)) == layers
    for hook in hooks:
        hook.remove()
    assert ran == list(range(1, depth + 1))


def test_maps_are_contiguous(maps):
    assert all(features.is_contiguous() for features in maps.values())


def test_weights_are_frozen_and_in_evaluation_mode(backbone):
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    assert not any(module.training for module in backbone.model.modules())


def test_size_that_is_no_multiple_of_14_is_refused(backbone):
    with pytest.raises(DataError, match=r"got images of 56x80 pixels.*multiples of 14: resize to 56x84"):
        backbone.features(torch.zeros(1, 3, 56, 80), layers=["final"])


def test_unknown_layer_is_refused(backbone, images):
    with pytest.raises(ConfigError, match=r"unknown \['block4'\]"):
        backbone.features(images, layers=["block3", "block4"])
