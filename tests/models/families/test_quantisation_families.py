"""QLoRA on every family: the language model's layers are quantised, tower and projector are not, and it learns."""

import pytest
import torch
from torch import nn
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig

from velm_train.models.lora import LoraSettings, attach_lora
from velm_train.models.lora_targets import decoder_layers
from velm_train.models.quantisation import quantise

KINDS = {"nf4": "Linear4bit", "int8": "Linear8bitLt"}


def quantised_names(model, kind):
    return {
        name.removeprefix("base_model.model.").removesuffix(".base_layer")
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and type(module).__name__ == KINDS[kind]
    }


@pytest.mark.parametrize("kind", list(KINDS))
def test_exactly_the_layers_of_the_language_model_s_blocks_are_quantised(tiny, family, kind):
    vlm = tiny(family).vlm
    expected = set(decoder_layers(vlm))
    tuned = attach_lora(vlm, LoraSettings(r=2, targets="attention", quantisation=kind), base_name="tiny", seed=0)
    assert quantised_names(tuned, kind) == expected
    assert len(expected) == 3 * 7


@pytest.mark.parametrize("kind", list(KINDS))
def test_it_is_what_transformers_makes_of_the_same_checkpoint(tiny, tmp_path, kind):
    vlm = tiny("internvl").vlm
    vlm.save_pretrained(tmp_path)
    names = decoder_layers(vlm)
    others = [name for name, module in vlm.named_modules() if isinstance(module, nn.Linear) and name not in names]
    config = (
        BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
            llm_int8_skip_modules=others,
        )
        if kind == "nf4"
        else BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=others)
    )
    theirs = AutoModelForImageTextToText.from_pretrained(
        tmp_path, quantization_config=config, dtype=torch.float32, local_files_only=True
    )
    quantise(vlm, names, kind=kind)
    assert quantised_names(theirs, kind) == quantised_names(vlm, kind)
    for name in names:
        assert torch.equal(theirs.get_submodule(name).weight.data, vlm.get_submodule(name).weight.data)
    input_ids = torch.arange(5, 17)[None]
    # In train mode, because bitsandbytes' own layers round further in eval mode on some CPUs.
    with torch.no_grad():
        logits = [model.train()(input_ids=input_ids).logits for model in (theirs, vlm)]
    assert torch.equal(*logits)


@pytest.mark.parametrize(("kind", "variant"), [("nf4", "lora"), ("nf4", "dora"), ("int8", "lora")])
def test_training_steps_with_pictures(make_family, make_prompts, pictures, family, kind, variant):
    model = make_family(family, lora=LoraSettings(r=4, quantisation=kind, variant=variant)).train()
    batch = make_prompts(model, [[view] for view in pictures([(100, 150), (60, 56)])], answer=2)
    groups = model.trainable_groups()
    optimiser = torch.optim.AdamW(groups["lora"], lr=0.02)
    losses = []
    for _ in range(6):
        output = model.training_output(batch)
        output.language_loss_sum.backward()
        assert all(parameter.grad is not None for parameter in groups["lora"])
        assert not any(parameter.grad is not None for parameter in model.parameters() if not parameter.requires_grad)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(output.language_loss_sum))
    assert losses[-1] < 0.7 * losses[0]
    scores = model.option_log_likelihoods(make_prompts(model, [pictures([(100, 150)])]), options=[[[7, 8], [9]]])
    assert torch.isfinite(scores[0]).all()


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_saved_adapter_gives_the_same_answers(
    make_family, make_prompts, pictures, logits_of_batch, family, tmp_path, kind
):
    taught, reader = (make_family(family, lora=LoraSettings(r=2, quantisation=kind)).eval() for _ in range(2))
    with torch.no_grad():
        for parameter in taught.trainable_groups()["lora"]:
            parameter.add_(0.05)
    batch = make_prompts(taught, [pictures([(100, 150)])])
    assert not torch.equal(logits_of_batch(taught, batch), logits_of_batch(reader, batch))
    taught.save_adapter(tmp_path)
    reader.load_adapter(tmp_path)
    assert torch.equal(logits_of_batch(taught, batch), logits_of_batch(reader, batch))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_model_that_was_quantised_on_the_cpu_learns_on_the_gpu(make_family, make_prompts, pictures, family, kind):
    model = make_family(family, lora=LoraSettings(r=4, quantisation=kind)).train()
    batch = make_prompts(model, [[view] for view in pictures([(100, 150), (60, 56)])], answer=2)
    with torch.no_grad():
        on_cpu = float(model.training_output(batch).language_loss_sum)  # the scales have moved before the weights do
    model.to("cuda")
    output = model.training_output(batch.to(torch.device("cuda")))
    assert float(output.language_loss_sum.detach()) == pytest.approx(on_cpu, rel=0.05)
    output.language_loss_sum.backward()
    assert all(parameter.grad is not None for parameter in model.trainable_groups()["lora"])
