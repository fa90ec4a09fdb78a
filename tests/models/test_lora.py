"""LoRA changes nothing until it has learnt, touches the language model alone, and merges without a trace."""

import re

import pytest
import torch

from velm_train.core.errors import ConfigError
from velm_train.models.lora import LoraSettings, attach_lora, merged, target_pattern, trainable_parts

INPUT_IDS = torch.tensor([[5, 9, 11, 3, 8, 40]])


def _logits(model):
    with torch.no_grad():
        return model(input_ids=INPUT_IDS).logits


def _attach(language_model, *, seed=0, variant="lora", targets="attention_mlp", dropout=0.0):
    settings = LoraSettings(r=4, alpha=8.0, variant=variant, targets=targets, dropout=dropout)
    return attach_lora(language_model, settings, base_name="tiny_llama", seed=seed)


def _train_a_little(model):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize("variant", ["lora", "rslora"])
def test_fresh_lora_equals_the_base_bit_by_bit(variant, tiny_language_model):
    assert torch.equal(_logits(_attach(tiny_language_model(), variant=variant)), _logits(tiny_language_model()))


@pytest.mark.parametrize("variant", ["dora", "pissa"])
def test_fresh_dora_and_pissa_equal_the_base_up_to_rounding(variant, tiny_language_model):
    # Both recompute the base weight: magnitude times direction, or residual plus principal part.
    fresh, base = _logits(_attach(tiny_language_model(), variant=variant)), _logits(tiny_language_model())
    torch.testing.assert_close(fresh, base, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("variant", ["lora", "rslora", "dora", "pissa"])
def test_merged_equals_unmerged_and_the_base_weights_come_back(variant, tiny_language_model):
    model = _attach(tiny_language_model(), variant=variant).eval()
    _train_a_little(model)
    before = _logits(model)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with merged(model):
        torch.testing.assert_close(_logits(model), before, atol=1e-4, rtol=1e-4)
        changed = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, state[name])]
        assert len(changed) == 14  # seven linear layers in each of two blocks
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(_logits(model), before)


def test_trained_lora_differs_from_the_base(tiny_language_model):
    model = _attach(tiny_language_model())
    _train_a_little(model)
    assert (_logits(model) - _logits(tiny_language_model())).abs().max() > 0.01


@pytest.mark.parametrize(("targets", "layers"), [("attention", 4), ("attention_mlp", 7)])
def test_only_lora_is_trainable(targets, layers, tiny_language_model):
    model = _attach(tiny_language_model(), targets=targets)
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert len(names) == 2 * 2 * layers
    assert all("lora_" in name for name in names)


@pytest.mark.parametrize("variant", ["lora", "pissa"])
def test_the_seed_decides_fresh_weights_and_leaves_the_global_generator_alone(variant, tiny_language_model):
    torch.manual_seed(1)
    first = _attach(tiny_language_model(), seed=1, variant=variant).state_dict()
    draw = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(draw, torch.rand(1))
    again = _attach(tiny_language_model(), seed=1, variant=variant).state_dict()
    other = _attach(tiny_language_model(), seed=2, variant=variant).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    same = all(torch.equal(first[name], other[name]) for name in first)
    assert same == (variant == "pissa")  # its residual base must be the same for every run


def test_dropout_acts_in_training_only(tiny_language_model):
    model = _attach(tiny_language_model(), dropout=0.5)
    _train_a_little(model)
    model.train()
    assert not torch.equal(_logits(model), _logits(model))
    model.eval()
    assert torch.equal(_logits(model), _logits(model))


def test_the_pattern_never_matches_a_vision_tower():
    pattern = re.compile(target_pattern("attention_mlp"))
    assert pattern.fullmatch("model.layers.11.self_attn.q_proj")
    assert pattern.fullmatch("model.language_model.layers.0.mlp.down_proj")
    assert not pattern.fullmatch("model.vision_tower.encoder.layers.0.self_attn.q_proj")
    assert not pattern.fullmatch("model.visual.layers.0.mlp.up_proj")
    assert not pattern.fullmatch("lm_head")


def test_the_table_counts_tensors_and_parameters(tiny_language_model):
    model = _attach(tiny_language_model(), targets="attention")
    groups = {"lora": [parameter for parameter in model.parameters() if parameter.requires_grad]}
    (row,) = trainable_parts(groups)
    per_block = 4 * ((32 + 32) + (32 + 16) + (32 + 16) + (32 + 32))
    assert (row.group, row.num_tensors, row.num_parameters) == ("lora", 16, 2 * per_block)


@pytest.mark.parametrize("wrong", [{"r": 0}, {"alpha": 0.0}, {"dropout": 1.0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        LoraSettings(**wrong)


@pytest.mark.parametrize("field", ["variant", "targets"])
def test_an_unknown_choice_is_refused_by_name(field):
    settings = LoraSettings()
    object.__setattr__(settings, field, "lorra")  # past the type check that only tests have
    with pytest.raises(ConfigError, match=f"{field} is 'lorra'; allowed"):
        settings.__post_init__()
