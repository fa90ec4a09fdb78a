"""Logits are computed where an answer is taught, and nowhere else; the loss is the one that all logits would give."""

import pytest
import torch
from torch.nn import functional as F

from velm_train.core.batch import IGNORE_INDEX
from velm_train.models.lora import LoraSettings

SIZES = [(100, 150), (60, 56), (150, 40)]
TEXTS = ["The part: is it cut?", "Cut?", "Which of these defects does the picture show?"]


@pytest.fixture(params=[False, True], ids=["plain", "lora"])
def model(request, make_family, family):
    return make_family(family, lora=LoraSettings(r=2)).eval() if request.param else make_family(family)


@pytest.mark.parametrize("padding", ["right", "left"])
def test_the_output_layer_sees_supervised_positions_alone(model, make_prompts, pictures, padding):
    batch = make_prompts(model, [[view] for view in pictures(SIZES)], texts=TEXTS, answer=3, padding=padding)
    seen = []
    output_layer = model._vlm.get_output_embeddings()
    handle = output_layer.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    try:
        with torch.no_grad():
            output = model.training_output(batch)
    finally:
        handle.remove()
    assert output.num_supervised == 9
    assert seen == [(9, 64)]  # (supervised, width), not (B, L, width)


def test_the_loss_is_that_of_all_logits(model, make_prompts, pictures, logits_of_batch):
    batch = make_prompts(model, [[view] for view in pictures(SIZES)], texts=TEXTS, answer=3)
    with torch.no_grad():
        loss = model.training_output(batch).language_loss_sum
    logits = logits_of_batch(model, batch)
    assert logits.shape[:2] == batch.input_ids.shape
    slow = F.cross_entropy(
        logits[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten(), ignore_index=IGNORE_INDEX, reduction="sum"
    )
    torch.testing.assert_close(loss, slow, rtol=1e-6, atol=0)


def test_the_loss_is_the_family_s_own(make_family, make_prompts, bare_inputs, pictures, family):
    model = make_family(family)
    views = pictures([(100, 150)])
    batch = make_prompts(model, [views], texts=[TEXTS[0]], answer=3)
    inputs = bare_inputs(model, views, text=TEXTS[0])
    with torch.no_grad():
        theirs = model.language_model(**inputs, labels=batch.labels).loss
        ours = model.training_output(batch)
    torch.testing.assert_close(ours.language_loss_sum / ours.num_supervised, theirs, rtol=1e-6, atol=0)
