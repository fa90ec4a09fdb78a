"""Settings of every family become models, renderers and devices; what is not here is refused before anything else."""

from pathlib import Path
from typing import NoReturn, get_args

import pytest
import torch
from peft import PeftModel

from velm_train.assets.library import AssetLibrary
from velm_train.cli.build_detector import make_detector
from velm_train.cli.build_engine import make_device
from velm_train.cli.build_model import (
    make_model,
    make_renderer,
    make_untuned,
    max_tokens,
    require_machine,
)
from velm_train.cli.compose import load_config
from velm_train.cli.tasks import required_assets, required_checkpoints
from velm_train.core.errors import AssetError, ConfigError
from velm_train.core.progress import SilentProgress
from velm_train.models.embedded.embedded import EmbeddedVLM
from velm_train.models.families.build import FamilyName
from velm_train.models.families.model import HFVisionLanguageModel
from velm_train.models.families.tiny import build_tiny
from velm_train.models.protocol import VisionLanguageModel

FAMILIES = get_args(FamilyName)


@pytest.fixture
def no_assets(tmp_path: Path) -> AssetLibrary:
    """None of these families needs an embedded asset."""
    return AssetLibrary(tmp_path / "nothing", progress=SilentProgress())


@pytest.mark.parametrize("family", FAMILIES)
def test_tiny_model_has_what_the_settings_say(family: FamilyName, no_assets: AssetLibrary) -> None:
    words = ["look_twice.pool=3", "lora.r=4", "model.hub.max_views=2", "model.hub.train_projector=true"]
    config = load_config([f"model=tiny_{family}", *words])
    model = make_model(config, assets=no_assets)
    assert isinstance(model, HFVisionLanguageModel)
    assert isinstance(model, VisionLanguageModel)
    assert set(model.trainable_groups()) == {"lora", "projector", "look_twice"}
    assert (model.num_second_look, model.writer.max_views, model.feature_dtype) == (10, 2, torch.float32)
    renderer = make_renderer(model, assets=no_assets)
    assert (renderer.image_id, renderer.inspect_id) == (model.image_token_id, model.inspect_token_id)
    assert model.view_token_ids((60, 90)).count(renderer.inspect_id) == 10
    assert max_tokens(config, model=model) == model.max_context == 4096


@pytest.mark.parametrize("family", FAMILIES)
def test_untuned_model_is_the_family_s_own(family: FamilyName, no_assets: AssetLibrary) -> None:
    config = load_config([f"model=tiny_{family}", "seed=5"])
    model = make_untuned(config, assets=no_assets)
    assert isinstance(model, HFVisionLanguageModel)
    assert not isinstance(model.language_model, PeftModel)
    assert model.trainable_groups() == {}
    bare = build_tiny(family).vlm.state_dict()
    found = model.language_model.state_dict()
    assert found.keys() == bare.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in bare.items())


def test_bfloat16_is_the_type_of_the_frozen_weights_and_of_the_features(no_assets: AssetLibrary) -> None:
    config = load_config(["model=tiny_smolvlm", "model.dtype=bfloat16", "model.hub.train_projector=true"])
    model = make_model(config, assets=no_assets)
    assert model.feature_dtype == torch.bfloat16
    groups = model.trainable_groups()
    assert {parameter.dtype for members in groups.values() for parameter in members} == {torch.float32}


def test_levels_are_counted_from_one(no_assets: AssetLibrary) -> None:
    model = make_model(load_config(["model=tiny_internvl", "look_twice.levels=[1,3]"]), assets=no_assets)
    assert isinstance(model, HFVisionLanguageModel)
    assert model.writer.tap.level_layers == (0, 2)
    with pytest.raises(ConfigError, match=r"look_twice\.levels=\[4\] is not possible; allowed: 1 to 3, the blocks"):
        make_model(load_config(["model=tiny_internvl", "look_twice.levels=[4]"]), assets=no_assets)


def test_embedded_model_reads_two_levels_or_as_many_as_were_published(assets: AssetLibrary) -> None:
    found = []
    for words in ([], ["look_twice=published"], ["look_twice.levels=[3]"]):
        model = make_model(load_config(["debug=fast", *words]), assets=assets)
        assert isinstance(model, EmbeddedVLM)
        found.append(model.towers.settings.level_layers)
    assert found == [("block6", "block12"), ("block3", "block6", "block9", "block12"), ("block3",)]


def test_prompt_limit_is_what_the_settings_say_or_the_context(assets: AssetLibrary) -> None:
    model = make_model(load_config(["debug=fast"]), assets=assets)
    assert max_tokens(load_config([]), model=model) == 8192
    assert max_tokens(load_config(["instructions.max_tokens=99"]), model=model) == 99


def test_folder_is_loaded_in_place_of_a_hub_id(tmp_path: Path, no_assets: AssetLibrary) -> None:
    parts = build_tiny("internvl")
    parts.vlm.save_pretrained(tmp_path)
    parts.processor.save_pretrained(tmp_path)
    words = ["model=internvl3_1b", f"model.hub.path={tmp_path}", "model.dtype=float32", "model.hub.max_pixels=9408"]
    config = load_config(words)
    require_machine(config)
    model = make_untuned(config, assets=no_assets)
    assert isinstance(model, HFVisionLanguageModel)
    found, expected = model.language_model.state_dict(), parts.vlm.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert model.writer.processor.image_processor.max_patches == 3


def test_what_is_not_here_is_refused_before_anything_is_computed(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(AssetError, match=r"models--Qwen--Qwen3-VL-4B-Instruct is missing .*model\.hub\.path"):
        require_machine(load_config(["model=qwen3_vl_4b"]))
    with pytest.raises(AssetError, match="holds no checkpoint"):
        require_machine(load_config(["model=tiny_internvl", f"model.hub.path={tmp_path}"]))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"trainer\.accelerator=gpu is not possible: torch finds no GPU"):
        require_machine(load_config(["trainer=gpu"]))
    require_machine(load_config([]))


def test_device_is_the_trainer_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 1)
    assert make_device(load_config([])) == torch.device("cpu")
    assert make_device(load_config(["trainer=gpu"])) == torch.device("cuda", 1)
    assert make_device(load_config(["trainer.accelerator=auto"])) == torch.device("cuda", 1)


@pytest.mark.parametrize("accelerator", ["gpu", "auto"])
def test_detector_runs_where_the_trainer_trains(accelerator: str, assets, monkeypatch: pytest.MonkeyPatch) -> None:
    class LoadedError(Exception):  # the backbone is not loaded: there is no GPU
        pass

    def load(name: str, *, assets: AssetLibrary, device: torch.device) -> NoReturn:
        raise LoadedError(device)

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 1)
    monkeypatch.setattr("velm_train.cli.build_detector.load_backbone", load)
    with pytest.raises(LoadedError) as loaded:
        make_detector(load_config([f"trainer.accelerator={accelerator}"]), assets=assets)
    assert loaded.value.args == (torch.device("cuda", 1),)


def test_only_the_embedded_model_needs_embedded_weights() -> None:
    assert "smollm2_135m_instruct" in required_assets(load_config([]))
    assert "smollm2_135m_instruct" not in required_assets(load_config(["model=smolvlm_256m"]))
    assert required_checkpoints(load_config([])) == required_checkpoints(load_config(["model=tiny_smolvlm"])) == ()
    assert required_checkpoints(load_config(["model=smolvlm_256m"])) == ("HuggingFaceTB/SmolVLM-256M-Instruct",)
