"""A PiSSA adapter is saved as plain LoRA for the original weights, and comes back bit by bit."""

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import set_peft_model_state_dict
from safetensors.torch import save_file

from velm_train.models import lora
from velm_train.models.lora import LoraSettings, attach_lora
from velm_train.models.pissa import load_portable, portable_config, portable_tensors

INPUT_IDS = torch.tensor([[5, 9, 11, 3, 8, 40]])
VARIANTS = ["lora", "rslora", "dora", "pissa"]


def _logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=INPUT_IDS).logits


def _attach(language_model, variant, **settings):
    return attach_lora(
        language_model,
        LoraSettings(**{"r": 4, "alpha": 8.0, "variant": variant} | settings),
        base_name="tiny_llama",
        seed=0,
    )


def _trained(model):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("rank_pattern", [{}, {"q_proj": 2}])
def test_plain_peft_reads_it_on_the_original_weights(variant, rank_pattern, tiny_language_model, tmp_path):
    model = _trained(_attach(tiny_language_model(), variant, rank_pattern=rank_pattern))
    save_file(portable_tensors(model), tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(portable_config(model), default=sorted))
    read = PeftModel.from_pretrained(tiny_language_model(), tmp_path)
    assert (_logits(model) - _logits(tiny_language_model())).abs().max() > 0.01
    torch.testing.assert_close(_logits(read), _logits(model), atol=1e-4, rtol=1e-4)
    assert read.get_base_model().model.layers[0].mlp.up_proj.lora_A["default"].weight.shape[0] == (
        8 if variant == "pissa" else 4
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_comes_back_bit_by_bit(variant, tiny_language_model):
    model, other = _trained(_attach(tiny_language_model(), variant)), _attach(tiny_language_model(), variant)
    load_portable(other, portable_tensors(model))
    assert torch.equal(_logits(other), _logits(model))
    again = portable_tensors(other)
    assert all(torch.equal(again[name], tensor) for name, tensor in portable_tensors(model).items())


def test_another_decomposition_of_the_same_weights_gives_the_same_answers(tiny_language_model, monkeypatch):
    model = _trained(_attach(tiny_language_model(), "pissa"))
    monkeypatch.setattr(lora, "_PISSA_INIT", "pissa_niter_1")  # as coarse as another machine never is
    other = _attach(tiny_language_model(), "pissa")
    names = [
        name
        for name in portable_tensors(model)
        if not torch.equal(
            portable_tensors(model)[name].chunk(2, dim=int("lora_B" in name))[1],
            portable_tensors(other)[name].chunk(2, dim=int("lora_B" in name))[1],
        )
    ]
    assert names
    load_portable(other, portable_tensors(model))
    torch.testing.assert_close(_logits(other), _logits(model), atol=1e-4, rtol=1e-4)


def test_a_fresh_pissa_file_says_nothing(tiny_language_model):
    model = _attach(tiny_language_model(), "pissa")
    config = LoraConfig(r=8, lora_alpha=16.0, target_modules=portable_config(model)["target_modules"])
    read = get_peft_model(tiny_language_model(), config)
    set_peft_model_state_dict(read, portable_tensors(model))
    torch.testing.assert_close(_logits(read), _logits(tiny_language_model()), atol=1e-5, rtol=1e-5)
