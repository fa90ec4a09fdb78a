"""LoRA changes nothing until it has learnt, touches the language model alone, and merges without a trace."""

import pytest
import torch
from peft.tuners.lora import LoraLayer

from velm_train.core.errors import ConfigError
from velm_train.models.lora import LoraSettings, attach_lora, describe_lora, merged
from velm_train.models.lora_merging import merge_into_base
from velm_train.models.quantisation import quantisation_of

INPUT_IDS = torch.tensor([[5, 9, 11, 3, 8, 40]])
VARIANTS = ["lora", "rslora", "dora", "pissa"]


def _logits(model):
    with torch.no_grad():
        return model(input_ids=INPUT_IDS).logits


def _attach(language_model, *, seed=0, **settings):
    return attach_lora(
        language_model, LoraSettings(**{"r": 4, "alpha": 8.0} | settings), base_name="tiny_llama", seed=seed
    )


def _train_a_little(model):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("variant", ["lora", "rslora"])
def test_fresh_lora_equals_the_base_bit_by_bit(variant, tiny_language_model):
    assert torch.equal(_logits(_attach(tiny_language_model(), variant=variant)), _logits(tiny_language_model()))


@pytest.mark.parametrize("variant", ["dora", "pissa"])
def test_fresh_dora_and_pissa_equal_the_base_up_to_rounding(variant, tiny_language_model):
    # Both recompute the base weight: magnitude times direction, or residual plus principal part.
    fresh, base = _logits(_attach(tiny_language_model(), variant=variant)), _logits(tiny_language_model())
    torch.testing.assert_close(fresh, base, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_merged_equals_unmerged_and_the_base_weights_come_back(variant, tiny_language_model):
    model = _train_a_little(_attach(tiny_language_model(), variant=variant).eval())
    before = _logits(model)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with merged(model):
        torch.testing.assert_close(_logits(model), before, atol=1e-4, rtol=1e-4)
        changed = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, state[name])]
        assert len(changed) == 14  # seven linear layers in each of two blocks
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(_logits(model), before)


@pytest.mark.parametrize("variant", VARIANTS)
def test_merging_for_good_leaves_a_plain_model_with_the_same_answers(variant, tiny_language_model):
    model = _train_a_little(_attach(tiny_language_model(), variant=variant).eval())
    before = _logits(model)
    plain = merge_into_base(model)
    assert not any(isinstance(module, LoraLayer) for module in plain.modules())
    assert plain.state_dict().keys() == tiny_language_model().state_dict().keys()
    torch.testing.assert_close(_logits(plain), before, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_update_is_the_written_out_product(variant, tiny_language_model):
    base = tiny_language_model().model.layers[1].mlp.down_proj.weight.detach()
    fresh = _attach(tiny_language_model(), variant=variant)
    layer = fresh.get_base_model().model.layers[1].mlp.down_proj
    start_a, start_b = layer.lora_A["default"].weight.detach().clone(), layer.lora_B["default"].weight.detach().clone()
    _train_a_little(fresh)
    a, b = layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach()
    scale = 8.0 / 4**0.5 if variant == "rslora" else 8.0 / 4
    expected = base + scale * b @ a
    if variant == "pissa":
        expected = expected - scale * start_b @ start_a
    if variant == "dora":
        magnitude = layer.lora_magnitude_vector["default"].weight.detach()
        expected = magnitude[:, None] * expected / expected.norm(dim=1, keepdim=True)
    merged_weight = merge_into_base(fresh).model.layers[1].mlp.down_proj.weight
    torch.testing.assert_close(merged_weight, expected, atol=1e-5, rtol=1e-5)


def test_pissa_takes_out_the_principal_part(tiny_language_model):
    # Found by subspace iteration, so up to what singular values of nearly the same size leave open.
    base = tiny_language_model().model.layers[0].self_attn.q_proj.weight.detach()
    best = torch.linalg.svdvals(base)[:4].square().sum()
    layer = _attach(tiny_language_model(), variant="pissa").get_base_model().model.layers[0].self_attn.q_proj
    taken_out, left = layer.get_delta_weight("default").detach(), layer.get_base_layer().weight.detach()
    torch.testing.assert_close(taken_out + left, base, atol=1e-6, rtol=1e-5)
    assert 0.98 * best < taken_out.square().sum() <= 1.0001 * best


def test_trained_lora_differs_from_the_base(tiny_language_model):
    model = _train_a_little(_attach(tiny_language_model()))
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
    model = _train_a_little(_attach(tiny_language_model(), dropout=0.5))
    model.train()
    assert not torch.equal(_logits(model), _logits(model))
    model.eval()
    assert torch.equal(_logits(model), _logits(model))


@pytest.mark.parametrize("variant", ["lora", "rslora", "pissa"])
def test_patterns_give_some_layers_their_own_rank_and_scale(variant, tiny_language_model):
    model = _attach(
        tiny_language_model(),
        variant=variant,
        rank_pattern={r"mlp\.down_proj": 2},
        alpha_pattern={r"layers\.0\.self_attn\.q_proj": 32.0},
    )
    blocks = model.get_base_model().model.layers
    down, query, other = blocks[0].mlp.down_proj, blocks[0].self_attn.q_proj, blocks[1].self_attn.q_proj
    assert [layer.lora_A["default"].weight.shape[0] for layer in (down, query, other)] == [2, 4, 4]
    power = 0.5 if variant == "rslora" else 1.0
    scales = [layer.scaling["default"] for layer in (down, query, other)]
    assert scales == pytest.approx([8.0 / 2**power, 32.0 / 4**power, 8.0 / 4**power])
    torch.testing.assert_close(_logits(model), _logits(tiny_language_model()), atol=1e-5, rtol=1e-5)
    described = describe_lora(model)
    assert described["rank_pattern"] == {r"mlp\.down_proj": 2}
    assert described["alpha_pattern"] == {r"layers\.0\.self_attn\.q_proj": 32.0}


@pytest.mark.parametrize("key", ["rank_pattern", "alpha_pattern"])
@pytest.mark.parametrize(("pattern", "why"), [("k_projection", "matches none of the targets"), ("(", "no regular")])
def test_a_pattern_without_a_layer_is_refused(key, pattern, why, tiny_language_model):
    with pytest.raises(ConfigError, match=rf"lora\.per_layer has '.*{why}"):
        _attach(tiny_language_model(), **{key: {pattern: 2}})


def test_a_rank_that_a_layer_does_not_have_is_refused_for_pissa(tiny_language_model):
    with pytest.raises(ConfigError, match=r"lora\.r is 17 .*k_proj has only 16"):
        _attach(tiny_language_model(), variant="pissa", r=17)


@pytest.mark.parametrize("wrong", [{"r": 0}, {"alpha": 0.0}, {"dropout": 1.0}, {"rank_pattern": {"q_proj": 0}}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        LoraSettings(**wrong)


@pytest.mark.parametrize("field", ["variant", "quantisation"])
def test_an_unknown_choice_is_refused_by_name(field):
    settings = LoraSettings()
    object.__setattr__(settings, field, "lorra")  # past the type check that only tests have
    with pytest.raises(ConfigError, match=f"{field} is 'lorra'; allowed"):
        settings.__post_init__()


@pytest.mark.parametrize("quantisation", ["nf4", "int8"])
def test_pissa_on_quantised_weights_is_refused(quantisation):
    with pytest.raises(ConfigError, match="PiSSA takes its adapter out of the base weights"):
        LoraSettings(variant="pissa", quantisation=quantisation)


def test_dora_on_8_bit_weights_is_refused():
    with pytest.raises(ConfigError, match="peft loses the scales"):
        LoraSettings(variant="dora", quantisation="int8")


def test_a_plain_model_is_not_quantised(tiny_language_model):
    assert quantisation_of(_attach(tiny_language_model())) == "none"
    assert "quantisation" not in describe_lora(_attach(tiny_language_model()))
