"""The table of what learns counts by kind of layer, with each group's rate and type."""

import json

import pytest
import torch

from velm_train.models.lora import LoraSettings, attach_lora
from velm_train.models.trainables import find_trainables

RATES = {"lora": 5e-4, "projector": 0.0, "look_twice": 2e-4}


@pytest.fixture
def model(make_model):
    return make_model(lora=LoraSettings(r=4, rank_pattern={"down_proj": 2}))


def test_lora_is_listed_by_kind_of_layer_and_others_as_a_whole(model):
    found = find_trainables(model, model.trainable_groups(), learning_rates=RATES)
    layers = [f"model.layers.*.self_attn.{name}_proj" for name in "qkvo"]
    layers += [f"model.layers.*.mlp.{name}_proj" for name in ("gate", "up", "down")]
    assert [(part.group, part.modules) for part in found.parts] == [
        *(("lora", name) for name in layers),
        ("projector", ""),
        ("look_twice", ""),
    ]
    by_name = {part.modules: part for part in found.parts if part.group == "lora"}
    # Two blocks, an A and a B each; hidden size 32, key-value size 16, inner size 48.
    assert {part.num_tensors for part in by_name.values()} == {4}
    assert by_name[layers[0]].num_parameters == 2 * 4 * (32 + 32)
    assert by_name[layers[1]].num_parameters == 2 * 4 * (32 + 16)
    assert by_name[layers[6]].num_parameters == 2 * 2 * (48 + 32)
    assert found.parts[-2].num_parameters == sum(p.numel() for p in model.projector.parameters())


def test_rates_types_and_sums(model):
    model.look_twice.to(torch.bfloat16)
    found = find_trainables(model, model.trainable_groups(), learning_rates=RATES)
    assert {(part.group, part.learning_rate, part.dtype) for part in found.parts} == {
        ("lora", 5e-4, "float32"),
        ("projector", 0.0, "float32"),
        ("look_twice", 2e-4, "bfloat16"),
    }
    frozen = sum(part.num_parameters for part in found.parts if part.group == "projector")
    assert found.num_learning == sum(part.num_parameters for part in found.parts) - frozen
    assert found.num_all == sum(parameter.numel() for parameter in model.parameters())
    assert json.loads(json.dumps(found.as_json()))["num_learning"] == found.num_learning


def test_magnitudes_belong_to_their_layer(tiny_language_model):
    tuned = attach_lora(
        tiny_language_model(), LoraSettings(r=2, variant="dora", targets="attention"), base_name="tiny", seed=0
    )
    learning = {"lora": [parameter for parameter in tuned.parameters() if parameter.requires_grad]}
    found = find_trainables(tuned, learning, learning_rates=RATES)
    assert [part.num_tensors for part in found.parts] == [6] * 4
    assert found.parts[0].num_parameters == 2 * (2 * (32 + 32) + 32)
