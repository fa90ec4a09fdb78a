"""Compiled blocks: the same losses and gradients, with LoRA, recomputing and changing lengths; a compiler is needed."""

import pytest
import torch

from velm_train.core.errors import ConfigError
from velm_train.models.compilation import compiled_blocks, require_compiler
from velm_train.models.lora import LoraSettings
from velm_train.models.recompute import keep_activations, recompute_activations

SIZES = [[(100, 150), (60, 56)], [(150, 40), (60, 56), (56, 84)], [(150, 200), (84, 56)]]
TEXTS = ["The part: is it cut?", "Cut?", "Which of these defects does the picture show?"]


def gradients_of(model, batch):
    model.zero_grad()
    loss = model.training_output(batch).language_loss_sum
    loss.backward()
    learning = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.requires_grad}
    return loss.item(), learning


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_losses_and_gradients_stay_with_lora_recomputing_and_changing_lengths(make_family, make_prompts, pictures):
    model = make_family("qwen2_5_vl", lora=LoraSettings(r=2), train_projector=True).train()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.trainable_groups()["lora"]:
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    batches = [
        make_prompts(model, [[view] for view in pictures(sizes)], texts=TEXTS[: len(sizes)], answer=2)
        for sizes in SIZES
    ]
    assert len({batch.input_ids.shape for batch in batches}) == len(batches)
    plain = [gradients_of(model, batch) for batch in batches]
    torch.compiler.reset()
    with compiled_blocks(model.decoder):
        compiled = [gradients_of(model, batch) for batch in batches]
        recompute_activations(model.decoder)
        compiled += [gradients_of(model, batch) for batch in batches]
        keep_activations(model.decoder)
    assert all(block._compiled_call_impl is None for block in model.decoder.layers)
    stats = torch._dynamo.utils.counters
    assert stats["stats"]["unique_graphs"] > 0
    assert not stats["graph_break"]
    for (loss, learning), (other_loss, others) in zip(plain * 2, compiled, strict=True):
        assert other_loss == pytest.approx(loss, rel=1e-5)
        for name, gradient in learning.items():
            scale = gradient.abs().max()
            assert (others[name] - gradient).abs().max() <= 1e-4 * scale + 1e-7, name


def test_a_machine_without_compiler_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ConfigError, match=r"trainer\.compile=true needs a C\+\+ compiler.*trainer\.compile=false"):
        require_compiler()
    monkeypatch.setenv("CXX", "my-own-compiler -O2")
    with pytest.raises(ConfigError, match="'my-own-compiler -O2' is not here"):
        require_compiler()


def test_a_compiler_named_by_the_environment_is_taken(monkeypatch, tmp_path):
    compiler = tmp_path / "my-compiler"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    require_compiler()
