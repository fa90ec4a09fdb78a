"""Checkpoints come from folders; what is missing offline is named with the way to fetch it."""

import json

import pytest
import torch

from velm_train.core.errors import AssetError, ConfigError
from velm_train.models.families.bounds import set_image_bounds
from velm_train.models.families.build import assemble_family, default_levels
from velm_train.models.families.load import load_family
from velm_train.models.families.tiny import build_tiny
from velm_train.models.look_twice.adapter import LookTwiceSettings

OFF = LookTwiceSettings(source="off")


def test_a_folder_gives_the_same_model_and_ids(make_family, make_prompts, logits_of_batch, pictures, family, tmp_path):
    parts = build_tiny(family)
    parts.vlm.save_pretrained(tmp_path)
    parts.processor.save_pretrained(tmp_path)
    loaded = load_family(str(tmp_path), family=family, dtype=torch.float32, offline=True)
    model = assemble_family(loaded, look_twice=OFF, lora=None, seed=0)
    views = pictures([(100, 150)])
    ours = make_family(family)
    assert model.view_token_ids((100, 150)) == ours.view_token_ids((100, 150))
    assert torch.equal(
        logits_of_batch(model, make_prompts(model, [views])), logits_of_batch(ours, make_prompts(ours, [views]))
    )


def test_bfloat16_reads_and_answers(make_prompts, logits_of_batch, pictures, family, tmp_path):
    parts = build_tiny(family)
    parts.vlm.to(torch.bfloat16)
    model = assemble_family(parts, look_twice=LookTwiceSettings(source="learned", dim=16), lora=None, seed=0)
    batch = make_prompts(model, [pictures([(100, 150)])], answer=2)
    assert batch.evidence.final.dtype == torch.float32
    assert torch.isfinite(logits_of_batch(model, batch)).all()
    assert torch.isfinite(model.training_output(batch).language_loss_sum)


def test_the_seed_decides_the_weights(family):
    same, again, other = build_tiny(family), build_tiny(family), build_tiny(family, seed=1)
    assert same.weights_identity == again.weights_identity != other.weights_identity
    assert sum(tensor.numel() for tensor in same.vlm.state_dict().values()) * 4 < 5_000_000


def test_what_is_not_there_offline_is_named_with_the_way_to_fetch_it(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(AssetError, match=r"models--Qwen--Nothing-3B .*hf download Qwen/Nothing-3B"):
        load_family("Qwen/Nothing-3B", family="qwen2_5_vl", dtype=torch.float32, offline=True)


def test_what_is_no_hub_id_is_said(tmp_path):
    with pytest.raises(AssetError, match="neither a folder nor a hub id"):
        load_family(str(tmp_path / "no" / "such" / "folder"), family="internvl", dtype=torch.float32, offline=True)


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(AssetError, match="no checkpoint"):
        load_family(str(tmp_path), family="internvl", dtype=torch.float32, offline=True)


def test_a_checkpoint_without_weights_is_refused(tmp_path):
    parts = build_tiny("internvl")
    parts.vlm.config.save_pretrained(tmp_path)
    parts.processor.save_pretrained(tmp_path)
    with pytest.raises(AssetError, match="holds no weights"):
        load_family(str(tmp_path), family="internvl", dtype=torch.float32, offline=True)


def test_damaged_weights_are_refused(tmp_path):
    parts = build_tiny("internvl")
    parts.vlm.save_pretrained(tmp_path)
    parts.processor.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(AssetError, match="cannot be loaded"):
        load_family(str(tmp_path), family="internvl", dtype=torch.float32, offline=True)


def test_another_family_is_refused(tmp_path):
    build_tiny("internvl").vlm.config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "internvl"
    with pytest.raises(ConfigError, match="internvl"):
        load_family(str(tmp_path), family="smolvlm", dtype=torch.float32, offline=True)


@pytest.mark.parametrize(
    ("name", "max_pixels", "tiles"),
    [
        ("llava_onevision", 56 * 56 * 2, 3),
        ("llava_onevision", 56 * 56, 1),
        ("smolvlm", 64 * 64 * 4, 5),
        ("smolvlm", 64 * 64, 1),
        ("internvl", 56 * 56 * 2, 3),
        ("internvl", 56 * 56, 1),
    ],
)
def test_bounds_in_pixels_become_tiles(make_prompts, bare_inputs, pictures, name, max_pixels, tiles):
    parts = build_tiny(name)
    tile_views = set_image_bounds(parts, min_pixels=None, max_pixels=max_pixels)
    model = assemble_family(parts, look_twice=OFF, lora=None, seed=0, tile_views=tile_views)
    views = pictures([(150, 170)]) if name == "smolvlm" else pictures([(50, 110)])
    assert len(model.encode_views(views).final) == tiles
    if tile_views:
        text = "The part: is it cut?"
        assert (
            make_prompts(model, [views]).input_ids.tolist() == bare_inputs(model, views, text=text).input_ids.tolist()
        )


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl"])
def test_bounds_of_qwen_are_areas(pictures, name):
    parts = build_tiny(name)
    cell = {"qwen2_5_vl": 28, "qwen3_vl": 32}[name]
    set_image_bounds(parts, min_pixels=None, max_pixels=cell**2 * 6)
    model = assemble_family(parts, look_twice=OFF, lora=None, seed=0)
    assert model.view_token_ids((cell * 10, cell * 15)).count(model.image_token_id) == 6
    set_image_bounds(parts, min_pixels=cell**2 * 6, max_pixels=cell**2 * 40)
    large = assemble_family(parts, look_twice=OFF, lora=None, seed=0)
    assert large.view_token_ids((cell, cell * 2)).count(model.image_token_id) >= 6


@pytest.mark.parametrize(
    ("name", "bounds", "message"),
    [
        ("internvl", {"min_pixels": 9000, "max_pixels": None}, "set it to null"),
        ("internvl", {"min_pixels": None, "max_pixels": 56 * 55}, "at least 3136"),
        ("smolvlm", {"min_pixels": None, "max_pixels": 1}, "at least 4096"),
        ("qwen3_vl", {"min_pixels": None, "max_pixels": 1023}, "at least 1024"),
        ("qwen3_vl", {"min_pixels": 9000, "max_pixels": 4096}, "above model.hub.max_pixels"),
        ("qwen3_vl", {"min_pixels": 32 * 32 * 41, "max_pixels": None}, "own largest area of 40960; lower it"),
    ],
)
def test_impossible_bounds_are_refused(name, bounds, message):
    with pytest.raises(ConfigError, match=message):
        set_image_bounds(build_tiny(name), **bounds)


def test_default_levels_are_those_of_the_paper():
    assert default_levels(26) == (6, 12, 18, 24)
    assert default_levels(27) == (6, 12, 19, 25)
    assert default_levels(1) == (0,)


def test_levels_lie_in_the_order_in_which_they_were_named(pictures, family):
    def levels(*layers):
        model = assemble_family(build_tiny(family), look_twice=OFF, lora=None, seed=0, level_layers=layers)
        return dict(zip(model.writer.tap.level_layers, model.encode_views(pictures([(100, 150)])).levels, strict=True))

    backwards, single = levels(3, 1), {**levels(1), **levels(2), **levels(3)}
    assert len(single) >= 3
    assert next(iter(backwards)) == (0 if family == "qwen3_vl" else 2)  # its deepstack blocks come first
    assert all(torch.equal(backwards[layer], single[layer]) for layer in backwards)


def test_a_level_between_deepstack_blocks_leaves_the_answers_of_qwen3_as_they_are(
    make_family, make_prompts, logits_of_batch, pictures
):
    plain = make_family("qwen3_vl")
    model = assemble_family(build_tiny("qwen3_vl"), look_twice=OFF, lora=None, seed=0, level_layers=(2,))
    assert model.writer.tap.level_layers == (0, 2, 1)
    views = [pictures([(100, 150)])]
    assert torch.equal(
        logits_of_batch(model, make_prompts(model, views)), logits_of_batch(plain, make_prompts(plain, views))
    )


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl", "smolvlm"])
def test_a_level_beyond_the_tower_is_refused(name):
    with pytest.raises(ConfigError, match=r"levels=\[.*9\] is not possible; allowed: 1 to (3|4), the blocks"):
        assemble_family(build_tiny(name), look_twice=OFF, lora=None, seed=0, level_layers=(9,))
