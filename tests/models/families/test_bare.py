"""Without adapter and LoRA every family answers as its own class does on its own processor's output."""

import numpy as np
import pytest
import torch

from velm_train.models.lora import LoraSettings

TEXT = "The part: is it cut?"
SIZES = [(100, 150), (150, 100), (56, 56), (64, 64), (30, 200), (200, 33), (57, 113), (311, 87), (9, 12)]


def bare_logits(model, inputs):
    with torch.no_grad():
        return model.language_model(**inputs).logits


@pytest.mark.parametrize("size", SIZES)
def test_ids_are_those_of_the_processor(make_family, make_prompts, bare_inputs, pictures, family, size):
    model = make_family(family)
    views = pictures([size])
    assert make_prompts(model, [views]).input_ids.tolist() == bare_inputs(model, views, text=TEXT).input_ids.tolist()


@pytest.mark.parametrize("size", [(100, 150), (150, 60), (56, 56)])
def test_logits_equal_the_bare_model_bit_by_bit(
    make_family, make_prompts, logits_of_batch, bare_inputs, pictures, family, size
):
    model = make_family(family)
    views = pictures([size])
    batch = make_prompts(model, [views])
    bare = bare_logits(model, bare_inputs(model, views, text=TEXT))
    assert bare.std() > 0.1
    assert torch.equal(logits_of_batch(model, batch), bare)


def test_several_pictures_in_a_prompt(make_family, make_prompts, logits_of_batch, bare_inputs, pictures, family):
    # LLaVA-OneVision shows each of several pictures as one padded square.
    model = make_family(family, tile_views=False)
    views = pictures([(100, 150), (130, 60), (90, 91)])
    batch = make_prompts(model, [views])
    inputs = bare_inputs(model, views, text=TEXT)
    assert batch.input_ids.tolist() == inputs.input_ids.tolist()
    assert torch.equal(logits_of_batch(model, batch), bare_logits(model, inputs))


def test_the_pictures_matter(make_family, make_prompts, logits_of_batch, pictures, family):
    model = make_family(family)
    first = logits_of_batch(model, make_prompts(model, [pictures([(100, 150)])]))
    second = logits_of_batch(model, make_prompts(model, [pictures([(100, 150)], seed=1)]))
    assert (first - second).abs().max() > 1e-3


def test_fresh_lora_changes_nothing(make_family, make_prompts, logits_of_batch, bare_inputs, pictures, family):
    model = make_family(family, lora=LoraSettings(r=4)).eval()
    views = pictures([(100, 150)])
    assert torch.equal(
        logits_of_batch(model, make_prompts(model, [views])),
        bare_logits(make_family(family), bare_inputs(model, views, text=TEXT)),
    )


def test_greedy_answers_are_those_of_the_family_s_own_generate(
    make_family, make_prompts, bare_inputs, pictures, family
):
    model = make_family(family)
    views = pictures([(100, 150)])
    batch = make_prompts(model, [views])
    ours = model.generate(batch, max_new_tokens=6)[0]
    theirs = model.language_model.generate(**bare_inputs(model, views, text=TEXT), max_new_tokens=6, do_sample=False)
    theirs = theirs[0, batch.input_ids.shape[1] :].tolist()
    stop = model.writer.tokenizer.eos_token_id
    assert ours == (theirs[: theirs.index(stop)] if stop in theirs else theirs)
    assert len(ours) > 1


def test_a_grey_picture_is_a_picture_too(make_family, make_prompts, logits_of_batch, family):
    model = make_family(family)
    batch = make_prompts(model, [[np.full((70, 90, 3), 128, dtype=np.uint8)]])
    assert torch.isfinite(logits_of_batch(model, batch)).all()
