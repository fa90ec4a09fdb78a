"""Vision transformers of transformers as backbones equal the models they wrap; tiny ones, made offline."""

import json
import shutil

import pytest
import torch
import transformers

from velm_train.backbones.load import load_backbone
from velm_train.core.errors import AssetError, ConfigError, DataError

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 64,
    "patch_size": 8,
}
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 9}
DINOV2_SIZES = {key: value for key, value in SIZES.items() if key != "intermediate_size"}
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]

# kind -> (makes a model, tokens before the patches, the tower that sees)
KINDS = {
    "dinov2": (lambda: transformers.Dinov2Model(transformers.Dinov2Config(**DINOV2_SIZES)), 1),
    "dinov2_with_registers": (
        lambda: transformers.Dinov2WithRegistersModel(
            transformers.Dinov2WithRegistersConfig(**DINOV2_SIZES, num_register_tokens=3)
        ),
        4,
    ),
    "dinov3_vit": (
        lambda: transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**SIZES, num_register_tokens=4)),
        5,
    ),
    "siglip_vision_model": (lambda: transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**SIZES)), 0),
    "clip_vision_model": (lambda: transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**SIZES)), 1),
    "siglip": (
        lambda: transformers.SiglipModel(transformers.SiglipConfig(text_config=TEXT, vision_config=SIZES)),
        0,
    ),
    "clip": (lambda: transformers.CLIPModel(transformers.CLIPConfig(text_config=TEXT, vision_config=SIZES)), 1),
}
INTERPOLATING = {"siglip", "siglip_vision_model", "clip", "clip_vision_model"}


def write_statistics(folder, **content):
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": STD, **content}))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}
    for kind, (make, _) in KINDS.items():
        with torch.random.fork_rng():
            torch.manual_seed(1)
            model = make().eval()
            for parameter in model.parameters():  # registers and embeddings start at zero
                torch.nn.init.normal_(parameter, std=0.2)
        made[kind] = tmp_path_factory.mktemp(kind)
        model.save_pretrained(made[kind])
        write_statistics(made[kind])
    return made


@pytest.fixture(scope="module")
def load(folders, assets):
    return {kind: load_backbone(f"transformers/{folder}", assets=assets) for kind, folder in folders.items()}


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))


def direct(kind, folder, images):
    model = KINDS[kind][0]().eval().__class__.from_pretrained(folder, local_files_only=True).eval()
    tower = model.vision_model if kind in ("siglip", "clip") else model
    arguments = {"interpolate_pos_encoding": True} if kind in INTERPOLATING else {}
    pixels = (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    with torch.no_grad():
        return tower(pixel_values=pixels, output_hidden_states=True, **arguments)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_equal_a_direct_call_token_by_token(load, folders, images, kind):
    backbone = load[kind]
    num_prefix = KINDS[kind][1]
    output = direct(kind, folders[kind], images)
    assert list(backbone.layers) == ["block1", "block2", "block3", "final"]
    maps = backbone.features(images, layers=["block2", "final"])
    expected = {"block2": output.hidden_states[2], "final": output.last_hidden_state}  # 0 is the embeddings
    for layer, tokens in expected.items():
        assert tokens.shape == (2, num_prefix + 4 * 6, 32)
        assert maps[layer].shape == (2, 32, 4, 6)
        for row in range(4):
            for column in range(6):
                mine = maps[layer][:, :, row, column]
                torch.testing.assert_close(mine, tokens[:, num_prefix + 6 * row + column], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_layer_is_the_same_alone_and_among_others(load, images, kind):
    together = load[kind].features(images, layers=["block1", "block3", "final"])
    for layer in together:
        alone = load[kind].features(images, layers=[layer])
        assert list(alone) == [layer]
        torch.testing.assert_close(alone[layer], together[layer], rtol=0, atol=0)
        assert alone[layer].dtype == torch.float32
        assert alone[layer].is_contiguous()


@pytest.mark.parametrize("kind", KINDS)
def test_bright_patch_lights_its_own_cell(load, kind):
    dark = torch.full((1, 3, 32, 48), 0.2)
    lit = dark.clone()
    lit[..., 16:24, 32:40] = 1.0  # row 2, column 4
    change = (
        load[kind].features(lit, layers=["block1"])["block1"] - load[kind].features(dark, layers=["block1"])["block1"]
    )
    assert divmod(int(change[0].norm(dim=0).argmax()), 6) == (2, 4)


@pytest.mark.parametrize("kind", ["dinov2", "clip", "dinov3_vit"])
def test_blocks_behind_the_deepest_layer_do_not_run(load, images, kind):
    backbone = load[kind]
    blocks = getattr(backbone._block_owner, backbone._block_attribute)
    ran = []
    hooks = [
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
        for number, block in enumerate(blocks, start=1)
    ]
    backbone.features(images, layers=["block2", "block1"])
    backbone.features(images, layers=["final"])
    for hook in hooks:
        hook.remove()
    assert ran == [1, 2, 1, 2, 3]


def test_same_folder_as_the_embedded_model_gives_the_same_features(assets, tmp_path):
    shutil.copytree(assets.ensure("dinov2_small"), tmp_path / "dinov2")
    write_statistics(tmp_path / "dinov2", image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
    images = torch.rand(1, 3, 42, 56, generator=torch.Generator().manual_seed(3))
    layers = ["block3", "block6", "final"]
    expected = load_backbone("dinov2_small", assets=assets).features(images, layers=layers)
    found = load_backbone(f"transformers/{tmp_path / 'dinov2'}", assets=assets).features(images, layers=layers)
    for layer in layers:
        torch.testing.assert_close(found[layer], expected[layer], rtol=1e-5, atol=1e-5)


def test_identity_follows_weights_and_preprocessing(load, folders, assets, tmp_path):
    assert len({backbone.identity for backbone in load.values()}) == len(KINDS)
    folder = shutil.copytree(folders["clip"], tmp_path / "clip")
    assert load_backbone(f"transformers/{folder}", assets=assets).identity == load["clip"].identity
    write_statistics(folder, image_mean=[0.5, 0.5, 0.5])
    assert load_backbone(f"transformers/{folder}", assets=assets).identity != load["clip"].identity


def test_hub_id_is_found_in_the_cache_and_a_missing_one_says_how_to_fetch_it(folders, assets, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(AssetError, match=r"config\.json of some/encoder is not in the hub cache.*hf download some/enc"):
        load_backbone("transformers/some/encoder", assets=assets)
    with pytest.raises(AssetError, match="neither a folder nor a hub id"):
        load_backbone("transformers/no/such/folder", assets=assets)
    repository = tmp_path / "models--some--encoder"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    shutil.copytree(folders["dinov2"], repository / "snapshots" / ("0" * 40))
    assert len(load_backbone("transformers/some/encoder", assets=assets).layers) == 4


@pytest.mark.parametrize("name", ["model.safetensors", "preprocessor_config.json", "config.json"])
def test_missing_file_is_named(folders, assets, tmp_path, name):
    folder = shutil.copytree(folders["dinov2"], tmp_path / "dinov2")
    (folder / name).unlink()
    with pytest.raises(AssetError, match=f"lacks {name}"):
        load_backbone(f"transformers/{folder}", assets=assets)


def test_weights_that_do_not_fit_are_refused(folders, assets, tmp_path):
    folder = shutil.copytree(folders["dinov2"], tmp_path / "dinov2")
    shutil.copy(folders["dinov3_vit"] / "model.safetensors", folder)
    with pytest.raises(AssetError, match="do not fit Dinov2Model"):
        load_backbone(f"transformers/{folder}", assets=assets)


def test_unknown_kind_names_the_known_ones(folders, assets, tmp_path):
    folder = shutil.copytree(folders["dinov2"], tmp_path / "dinov2")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "swin"}))
    with pytest.raises(ConfigError, match=r"type 'swin'.*known are dinov2, dinov2_with_registers, dinov3_vit"):
        load_backbone(f"transformers/{folder}", assets=assets)


def test_preprocessing_without_statistics_is_refused(folders, assets, tmp_path):
    folder = shutil.copytree(folders["dinov2"], tmp_path / "dinov2")
    (folder / "preprocessor_config.json").write_text("{}")
    with pytest.raises(AssetError, match="image_mean"):
        load_backbone(f"transformers/{folder}", assets=assets)


def test_size_that_is_no_multiple_of_the_patch_is_refused(load):
    with pytest.raises(DataError, match="multiples of 8: resize to 32x48"):
        load["clip"].features(torch.zeros(1, 3, 32, 50), layers=["final"])
    with pytest.raises(ConfigError, match=r"unknown \['block4'\]"):
        load["clip"].features(torch.zeros(1, 3, 32, 48), layers=["block4"])


def test_weights_are_frozen_and_in_evaluation_mode(load):
    for backbone in load.values():
        assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
        assert not any(module.training for module in backbone.model.modules())
