"""A timm model as a backbone equals timm's own output, on images that are not square."""

import logging
import sys

import pytest
import timm
import torch
from safetensors.torch import save_file

from velm_train.backbones.load import load_backbone
from velm_train.backbones.protocol import Backbone
from velm_train.backbones.timm_backbone import TimmBackbone
from velm_train.core.errors import AssetError, ConfigError, DataError

CPU = torch.device("cpu")
STAGED = ["test_resnet", "test_convnext", "test_efficientnet", "test_byobnet"]
TRANSFORMERS = ["test_vit", "test_vit2", "vit_small_patch16_dinov3"]


def noise(height: int = 64, width: int = 96) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def load(assets):
    loaded = {}

    def load_once(name: str) -> Backbone:
        if name not in loaded:
            loaded[name] = load_backbone(f"timm/{name}@random", assets=assets)
        return loaded[name]

    return load_once


def normalised(model, images: torch.Tensor) -> torch.Tensor:
    statistics = (model.pretrained_cfg["mean"], model.pretrained_cfg["std"])
    mean, std = (torch.tensor(values)[:, None, None] for values in statistics)
    return (images - mean) / std


@pytest.mark.parametrize("name", STAGED)
def test_stages_equal_timm_s_features_only(load, name):
    backbone = load(name)
    direct = timm.create_model(name, features_only=True).eval()
    own = backbone.model.state_dict()
    names = {key: key.replace("stages_", "stages.").replace("stem_", "stem.") for key in direct.state_dict()}
    direct.load_state_dict({key: own[name] for key, name in names.items()})
    with torch.no_grad():
        expected = direct(normalised(backbone.model, noise()))
    maps = backbone.features(noise(), layers=list(backbone.layers))
    assert list(maps) == list(backbone.layers) == [f"stage{number}" for number in range(1, len(expected) + 1)]
    for (layer, info), values in zip(backbone.layers.items(), expected, strict=True):
        assert maps[layer].shape == (2, info.channels, 64 // info.stride, 96 // info.stride)
        torch.testing.assert_close(maps[layer], values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_final_equals_timm_s_tokens_without_class_and_registers(load, name):
    backbone = load(name)
    with torch.no_grad():
        tokens = backbone.model.forward_features(normalised(backbone.model, noise()))
    patches = tokens[:, -24:]  # 4 x 6 patches of 16 pixels lie behind the other tokens
    assert tokens.shape[1] == 24 + backbone.model.num_prefix_tokens > 24
    final = backbone.features(noise(), layers=["final"])["final"]
    for row in range(4):
        for column in range(6):
            torch.testing.assert_close(final[:, :, row, column], patches[:, 6 * row + column], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_block_equals_the_output_of_that_block(load, name):
    backbone = load(name)
    kept = []
    hook = backbone.model.blocks[2].register_forward_hook(lambda *call: kept.append(call[2]))
    maps = backbone.features(noise(), layers=["block3"])["block3"]
    hook.remove()
    expected = kept[0][:, -24:].reshape(2, 4, 6, -1).permute(0, 3, 1, 2)
    torch.testing.assert_close(maps, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "vit_small_patch16_dinov3"])
def test_layer_is_the_same_alone_and_among_others(load, name):
    backbone = load(name)
    together = backbone.features(noise(), layers=list(backbone.layers))
    for layer in list(backbone.layers)[::3]:
        alone = backbone.features(noise(), layers=[layer])[layer]
        torch.testing.assert_close(alone, together[layer], rtol=0, atol=0)
        assert alone.dtype == torch.float32
        assert alone.is_contiguous()


def test_blocks_behind_the_deepest_layer_do_not_run(load):
    backbone = load("test_vit")
    ran = []
    hooks = [
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
        for number, block in enumerate(backbone.model.blocks, start=1)
    ]
    backbone.features(noise(), layers=["block4", "block2"])
    for hook in hooks:
        hook.remove()
    assert ran == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("test_resnet", "stage3"),
        ("test_convnext", "stage2"),
        ("test_vit", "block2"),
        ("vit_small_patch16_dinov3", "final"),
    ],
)
def test_bright_patch_lights_its_own_cell(load, name, layer):
    backbone = load(name)
    stride = backbone.layers[layer].stride
    dark = torch.full((1, 3, 64, 96), 0.2)
    lit = dark.clone()
    lit[..., 32:48, 64:80] = 1.0
    change = backbone.features(lit, layers=[layer])[layer] - backbone.features(dark, layers=[layer])[layer]
    row, column = divmod(int(change[0].norm(dim=0).argmax()), 96 // stride)
    assert 32 <= row * stride < 48
    assert 64 <= column * stride < 80


def test_random_weights_are_the_same_every_time_and_leave_the_global_generator_alone(load, assets, caplog):
    before = torch.get_rng_state()
    with caplog.at_level(logging.WARNING):
        again = load_backbone("timm/test_resnet@random", assets=assets)
    assert torch.equal(before, torch.get_rng_state())
    assert again.identity == load("test_resnet").identity != load("test_convnext").identity
    assert "random weights" in caplog.text


def test_weights_of_a_file_are_loaded_strictly_and_known_by_identity(load, assets, tmp_path):
    source = timm.create_model("test_vit", num_classes=0)
    path = tmp_path / "weights.safetensors"
    save_file(source.state_dict(), path)
    backbone = load_backbone(f"timm/test_vit@{path}", assets=assets)
    for key, value in source.state_dict().items():
        assert torch.equal(backbone.model.state_dict()[key], value)
    assert backbone.identity != load("test_vit").identity
    save_file({key: value for key, value in source.state_dict().items() if "blocks.3.mlp" not in key}, path)
    with pytest.raises(AssetError, match=r"does not hold its weights.*blocks\.3\.mlp"):
        load_backbone(f"timm/test_vit@{path}", assets=assets)


def test_file_of_a_classifier_gives_the_same_features_as_the_classifier(assets, tmp_path):
    source = timm.create_model("test_resnet", num_classes=7).eval()
    path = tmp_path / "weights.pth"
    torch.save(source.state_dict(), path)
    backbone = load_backbone(f"timm/test_resnet@{path}", assets=assets)
    with torch.no_grad():
        expected = source.forward_features(normalised(backbone.model, noise()))
    torch.testing.assert_close(backbone.features(noise(), layers=["stage5"])["stage5"], expected)


def test_published_weights_come_out_of_the_hub_cache(assets, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(AssetError, match=r"hf download timm/test_resnet\.r160_in1k.*@<file>"):
        load_backbone("timm/test_resnet", assets=assets)
    repository = tmp_path / "models--timm--test_resnet.r160_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    source = timm.create_model("test_resnet")
    save_file(source.state_dict(), repository / "snapshots" / ("0" * 40) / "model.safetensors")
    backbone = load_backbone("timm/test_resnet", assets=assets)
    assert torch.equal(backbone.model.state_dict()["conv1.0.weight"], source.state_dict()["conv1.0.weight"])


@pytest.mark.parametrize(
    ("name", "content"), [("w.pth", b"no pickle"), ("w.txt", b""), ("w.safetensors", None), ("w.safetensors", b"x")]
)
def test_file_that_holds_no_weights_is_refused(assets, tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(
        AssetError, match=r"backbone timm/test_vit: .* (cannot be read as plain weights|is no weights file)"
    ):
        load_backbone(f"timm/test_vit@{tmp_path / name}", assets=assets)


def test_unknown_model_gives_the_nearest(assets):
    with pytest.raises(ConfigError, match=r"did you mean timm/resnet18\?"):
        load_backbone("timm/resnet1", assets=assets)


def test_sizes_and_layers_that_do_not_suit_are_refused(load):
    with pytest.raises(DataError, match=r"multiples of 32: resize to 64x96"):
        load("test_resnet").features(torch.zeros(1, 3, 64, 90), layers=["stage1"])
    with pytest.raises(DataError, match=r"multiples of 16: resize to 64x96"):
        load("test_vit").features(torch.zeros(1, 3, 64, 90), layers=["final"])
    with pytest.raises(ConfigError, match=r"unknown \['block1'\]"):
        load("test_resnet").features(noise(), layers=["block1"])


def test_model_of_one_size_names_it(load):
    with pytest.raises(DataError, match="64x96 pixels but takes one size alone; resize to 160x160"):
        load("test_maxvit").features(noise(), layers=["stage1"])


def test_weights_are_frozen_and_in_evaluation_mode(load):
    backbone = load("test_resnet")
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    assert not any(module.training for module in backbone.model.modules())


def test_missing_timm_says_what_to_install(assets, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"timm/test_vit@random needs timm.*pip install"):
        load_backbone("timm/test_vit@random", assets=assets)


def test_channels_last_changes_no_feature_by_more_than_rounding():
    backbone = TimmBackbone(timm.create_model("test_resnet", num_classes=0), name="timm/test_resnet", device=CPU)
    images = noise()
    found = backbone.features(images, layers=["stage2", "stage4"])
    backbone.model.to(memory_format=torch.contiguous_format)
    backbone._memory_format = torch.contiguous_format
    for layer, expected in backbone.features(images, layers=["stage2", "stage4"]).items():
        assert found[layer].is_contiguous()
        torch.testing.assert_close(found[layer], expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
