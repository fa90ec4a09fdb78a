"""LoRA lands on the language model's linear layers of every family, by name, and nowhere else unless told so."""

import re

import pytest
import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from velm_train.core.errors import ConfigError
from velm_train.models.lora import LoraSettings, attach_lora
from velm_train.models.lora_targets import find_targets

DECODERS = {
    "qwen2_5_vl": "model.language_model",
    "qwen3_vl": "model.language_model",
    "llava_onevision": "model.language_model",
    "smolvlm": "model.text_model",
    "internvl": "model.language_model",
}
ATTENTION = [f"self_attn.{name}_proj" for name in "qkvo"]
MLP = [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
VISION = {
    "qwen2_5_vl": (
        "model.visual.blocks",
        3,
        ["attn.qkv", "attn.proj"],
        ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"],
    ),
    "qwen3_vl": ("model.visual.blocks", 4, ["attn.qkv", "attn.proj"], ["mlp.linear_fc1", "mlp.linear_fc2"]),
    "llava_onevision": (
        "model.vision_tower.encoder.layers",
        3,
        [f"self_attn.{name}_proj" for name in ("k", "v", "q", "out")],
        ["mlp.fc1", "mlp.fc2"],
    ),
    "smolvlm": (
        "model.vision_model.encoder.layers",
        3,
        [f"self_attn.{name}_proj" for name in ("k", "v", "q", "out")],
        ["mlp.fc1", "mlp.fc2"],
    ),
    "internvl": (
        "model.vision_tower.encoder.layer",
        3,
        [*(f"attention.{name}_proj" for name in "qkv"), "attention.projection_layer"],
        ["mlp.fc1", "mlp.fc2"],
    ),
}


def decoder_names(family, kinds):
    return {f"{DECODERS[family]}.layers.{block}.{kind}" for block in range(3) for kind in kinds}


def vision_names(family, kinds):
    return {f"{VISION[family][0]}.{block}.{kind}" for block in range(VISION[family][1]) for kind in kinds}


def with_lora(model):
    return {
        name.removeprefix("base_model.model.")
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer)
    }


@pytest.mark.parametrize(("targets", "kinds"), [("attention", ATTENTION), ("attention_mlp", ATTENTION + MLP)])
def test_the_presets_match_exactly_the_language_model_s_layers(tiny, family, targets, kinds):
    vlm = tiny(family).vlm
    expected = decoder_names(family, kinds)
    assert set(find_targets(vlm, targets, vision=False)) == expected
    model = attach_lora(vlm, LoraSettings(r=2, targets=targets), base_name="tiny", seed=0)
    assert with_lora(model) == expected


@pytest.mark.parametrize("targets", ["attention", "attention_mlp"])
def test_lora_in_the_tower_s_blocks_on_demand(tiny, family, targets):
    _, _, attention, mlp = VISION[family]
    kinds, own = (ATTENTION, attention) if targets == "attention" else (ATTENTION + MLP, attention + mlp)
    model = attach_lora(tiny(family).vlm, LoraSettings(r=2, targets=targets, vision=True), base_name="tiny", seed=0)
    assert with_lora(model) == decoder_names(family, kinds) | vision_names(family, own)


def test_all_linear_layers_of_the_blocks_have_lora_and_only_they(tiny, family):
    vlm = tiny(family).vlm
    linear = {name for name, module in vlm.named_modules() if isinstance(module, nn.Linear)}
    inside = {name for name in linear if name.startswith(f"{DECODERS[family]}.layers.")}
    tower = {name for name in linear if name.startswith(f"{VISION[family][0]}.")}
    assert set(find_targets(vlm, "attention_mlp", vision=False)) == inside
    assert set(find_targets(vlm, "attention_mlp", vision=True)) == inside | tower
    assert linear - inside - tower  # projector and output layer


def test_a_pattern_of_one_s_own(tiny, family):
    model = attach_lora(
        tiny(family).vlm, LoraSettings(r=2, targets=r".*_model\.layers\.[02]\.mlp\.up_proj"), base_name="tiny", seed=0
    )
    assert with_lora(model) == {f"{DECODERS[family]}.layers.{block}.mlp.up_proj" for block in (0, 2)}


@pytest.mark.parametrize(
    ("targets", "why"),
    [
        ("atention", "matches no layer; use attention, attention_mlp, or a regular expression of full names such as "),
        (r".*\.(", "no regular expression"),
        (r".*\.layers\.0", "only linear layers"),
        (r".*_norm|.*layernorm", "only linear layers"),
        (r"lm_head", "outside the language model's blocks"),
    ],
)
def test_what_is_no_layer_of_the_language_model_is_refused(tiny, family, targets, why):
    with pytest.raises(ConfigError, match=re.escape(why)):
        find_targets(tiny(family).vlm, targets, vision=False)


def test_a_pattern_that_reaches_the_tower_is_refused_by_name(tiny, family):
    blocks, _, attention, _ = VISION[family]
    pattern = rf".*\.({'|'.join(map(re.escape, {*ATTENTION, *attention}))})"
    with pytest.raises(ConfigError, match=rf"matches {re.escape(blocks)}\.0.*, outside the language model's blocks"):
        find_targets(tiny(family).vlm, pattern, vision=False)
    assert len(find_targets(tiny(family).vlm, pattern, vision=True)) > len(decoder_names(family, ATTENTION))


def test_a_pattern_that_reaches_the_projector_is_refused_even_with_vision(tiny, family):
    vlm = tiny(family).vlm
    known = decoder_names(family, ATTENTION + MLP) | vision_names(family, VISION[family][2] + VISION[family][3])
    others = [name for name, module in vlm.named_modules() if isinstance(module, nn.Linear) and name not in known]
    for name in others:
        pattern = f"{re.escape(name)}|{DECODERS[family]}.layers.0.mlp.up_proj|{VISION[family][0]}.0.*\\.(qkv|q_proj)"
        with pytest.raises(ConfigError, match=rf"{re.escape(name)}.* a projector learns whole"):
            find_targets(vlm, pattern, vision=True)


def test_vision_without_a_match_in_the_tower_is_refused(tiny, family):
    with pytest.raises(ConfigError, match="matches nothing in the vision tower"):
        find_targets(tiny(family).vlm, rf"{DECODERS[family]}\..*q_proj", vision=True)


def test_vision_of_a_plain_language_model_is_refused(tiny_language_model):
    with pytest.raises(ConfigError, match="the towers beside a model of type 'llama' stay frozen"):
        find_targets(tiny_language_model(), "attention", vision=True)


def test_a_plain_language_model_has_its_blocks(tiny_language_model):
    names = find_targets(tiny_language_model(), "attention", vision=False)
    assert names == [f"model.layers.{block}.{kind}" for block in range(2) for kind in ATTENTION]


def test_an_unknown_family_is_refused(tiny):
    vlm = tiny("internvl").vlm
    vlm.config.model_type = "other"
    with pytest.raises(ConfigError, match="type 'other' is; known: qwen2_5_vl"):
        find_targets(vlm, "attention", vision=False)


def test_fresh_lora_in_the_tower_changes_nothing(make_family, make_prompts, pictures, logits_of_batch, family):
    tuned, plain = make_family(family, lora=LoraSettings(r=2, vision=True)).eval(), make_family(family)
    views = [pictures([(100, 150)])]
    batch = make_prompts(tuned, views)
    assert torch.equal(logits_of_batch(tuned, batch), logits_of_batch(plain, make_prompts(plain, views)))
