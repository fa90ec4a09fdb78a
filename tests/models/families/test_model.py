"""The protocol's promises with the look-twice adapter and LoRA on, for every family."""

import dataclasses

import numpy as np
import pytest
import torch

from velm_train.core.errors import ConfigError, DataError
from velm_train.models.look_twice.adapter import LookTwiceSettings
from velm_train.models.lora import LoraSettings
from velm_train.models.padding import right_padded
from velm_train.models.prefix import logits_of
from velm_train.models.protocol import VisionLanguageModel

LEARNED = LookTwiceSettings(source="learned", dim=16)
SIZES = [(100, 150), (60, 56), (150, 40)]
TEXTS = ["The part: is it cut?", "Cut?", "Which of these defects does the picture show?"]


@pytest.fixture
def looking(make_family, family):
    return make_family(family, look_twice=LEARNED)


@pytest.fixture
def mixed(looking, make_prompts, pictures):
    return make_prompts(looking, [[view] for view in pictures(SIZES)], texts=TEXTS, answer=2)


def test_it_is_the_project_s_protocol(looking):
    assert isinstance(looking, VisionLanguageModel)


def test_prefill_equals_forward(looking, mixed, logits_of_batch):
    prefix, language_model = looking.prefill(mixed)
    whole = logits_of_batch(looking, mixed)
    last = whole[torch.arange(3), mixed.attention_mask.sum(dim=1) - 1]
    torch.testing.assert_close(logits_of(language_model, prefix.last_hidden), last, rtol=0, atol=2e-5)


def test_a_batch_of_mixed_sizes_equals_one_by_one(looking, mixed, make_prompts, pictures, logits_of_batch):
    together = logits_of_batch(looking, mixed)
    for row, (view, text) in enumerate(zip(pictures(SIZES), TEXTS, strict=True)):
        alone = logits_of_batch(looking, make_prompts(looking, [[view]], texts=[text]))[0]
        torch.testing.assert_close(together[row, : len(alone)], alone, rtol=0, atol=5e-5)


def test_the_side_of_the_padding_does_not_matter(looking, mixed, make_prompts, pictures):
    left = make_prompts(looking, [[view] for view in pictures(SIZES)], texts=TEXTS, answer=2, padding="left")
    assert not torch.equal(left.attention_mask, mixed.attention_mask)
    assert torch.equal(right_padded(left).input_ids, mixed.input_ids)
    with torch.no_grad():
        losses = [looking.training_output(batch) for batch in (left, mixed)]
    assert losses[0].num_supervised == losses[1].num_supervised == 6
    assert torch.equal(losses[0].language_loss_sum, losses[1].language_loss_sum)
    assert looking.generate(left, max_new_tokens=4) == looking.generate(mixed, max_new_tokens=4)
    options = [[[5, 6], [7]], [[8, 9, 10]], [[11], [12, 13]]]
    scores = [looking.option_log_likelihoods(batch, options=options) for batch in (left, mixed)]
    assert all(torch.equal(*rows) for rows in zip(*scores, strict=True))


def test_the_loss_is_the_cross_entropy_of_the_answer(looking, mixed, logits_of_batch):
    log_probabilities = logits_of_batch(looking, mixed).log_softmax(dim=-1)
    slow = 0.0
    for row, length in enumerate(mixed.attention_mask.sum(dim=1).tolist()):
        for place in (length - 2, length - 1):
            slow -= float(log_probabilities[row, place - 1, mixed.input_ids[row, place]])
    with torch.no_grad():
        assert float(looking.training_output(mixed).language_loss_sum) == pytest.approx(slow, rel=1e-5)


def test_options_score_as_their_whole_sequences_do(looking, make_prompts, pictures, logits_of_batch):
    rows = [[view] for view in pictures(SIZES)]
    tokens = looking.writer.tokenizer
    answers = [["cut", "no defect"], ["dent"], ["hole", "stain", "none of these"]]
    options = [[tokens(f" {text}")["input_ids"] + [tokens.eos_token_id] for text in row] for row in answers]
    scores = looking.option_log_likelihoods(make_prompts(looking, rows, texts=TEXTS), options=options)
    for row, row_answers in enumerate(answers):
        for number, text in enumerate(row_answers):
            full = make_prompts(looking, [rows[row]], texts=[f"{TEXTS[row]} {text}{tokens.eos_token}"])
            ids = options[row][number]
            assert full.input_ids[0, -len(ids) :].tolist() == ids
            log_probabilities = logits_of_batch(looking, full)[0].log_softmax(dim=-1)
            slow = sum(log_probabilities[-len(ids) - 1 + i, token] for i, token in enumerate(ids))
            assert float(scores[row][number]) == pytest.approx(float(slow), abs=2e-4)


def test_answers_continue_from_the_prompt_as_forward_would(looking, make_prompts, pictures, logits_of_batch):
    view = pictures([(100, 150)])
    response = looking.generate(make_prompts(looking, [view]), max_new_tokens=5)[0]
    batch = make_prompts(looking, [view])
    for token in response:
        logits = logits_of_batch(looking, batch)[0, -1]
        assert int(logits.argmax()) == token
        grown = torch.cat([batch.input_ids, torch.tensor([[token]])], dim=1)
        batch = dataclasses.replace(
            batch, input_ids=grown, attention_mask=torch.ones_like(grown), labels=torch.full_like(grown, -100)
        )
    assert response


def test_the_second_look_stands_behind_each_view_s_span(looking, make_family, family):
    plain, longer = make_family(family).view_token_ids((100, 150)), looking.view_token_ids((100, 150))
    assert longer == (*plain, *[looking.inspect_token_id] * 5)
    assert looking.inspect_token_id not in plain


def test_the_second_look_reaches_the_answer_and_leaves_the_first_untouched(looking, mixed):
    with torch.no_grad():
        inputs, look = looking.read(mixed)
        first, _ = looking.look(mixed.evidence)
    assert torch.equal(inputs.embeds[inputs.is_image], first.tokens)
    is_inspect = mixed.input_ids == looking.inspect_token_id
    assert torch.equal(inputs.embeds[is_inspect], look.second_look.flatten(0, 1))
    with torch.no_grad():
        louder = dataclasses.replace(inputs, embeds=torch.where(is_inspect[..., None], 0.0, inputs.embeds))
        assert (looking.hidden(inputs) - looking.hidden(louder)).abs().max() > 1e-3


def test_first_look_only_is_the_model_without_adapter(
    looking, make_family, make_prompts, pictures, logits_of_batch, family
):
    plain = make_family(family)
    batch = make_prompts(plain, [pictures([(100, 150)])])
    with looking.first_look_only():
        assert torch.equal(logits_of_batch(looking, batch), logits_of_batch(plain, batch))


@pytest.mark.parametrize("train_projector", [False, True])
def test_what_should_learn_gets_a_gradient_and_nothing_else(
    make_family, make_prompts, pictures, family, train_projector
):
    model = make_family(family, look_twice=LEARNED, lora=LoraSettings(r=2), train_projector=train_projector)
    model.train()
    groups = model.trainable_groups()
    assert set(groups) == {"lora", "look_twice"} | ({"projector"} if train_projector else set())
    with torch.no_grad():  # a fresh LoRA's A gets no gradient behind a zero B
        for parameter in groups["lora"]:
            parameter.add_(0.05)
    batch = make_prompts(model, [[view] for view in pictures(SIZES)], texts=TEXTS, answer=2)
    output = model.training_output(batch)
    (output.language_loss_sum + output.image_logits.sum()).backward()
    learning = {id(parameter) for members in groups.values() for parameter in members}
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == (id(parameter) in learning), name
    assert all(
        float(parameter.grad.abs().sum()) > 0
        for group, members in groups.items()
        for parameter in members
        if group != "look_twice"
    )


def test_train_leaves_the_tower_in_eval_mode(make_family, family):
    model = make_family(family, lora=LoraSettings(r=2, dropout=0.1)).train()
    assert model.training
    assert not any(module.training for module in model._tap.tower(model._vlm).modules())


@pytest.mark.parametrize("train_projector", [False, True])
def test_a_saved_adapter_gives_the_same_answers(
    make_family, make_prompts, pictures, logits_of_batch, family, tmp_path, train_projector
):
    def fresh():
        return make_family(family, look_twice=LEARNED, lora=LoraSettings(r=2), train_projector=train_projector).eval()

    taught, reader = fresh(), fresh()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for members in taught.trainable_groups().values():
            for parameter in members:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    batch = make_prompts(taught, [pictures([(100, 150)])])
    assert not torch.equal(logits_of_batch(taught, batch), logits_of_batch(reader, batch))
    taught.save_adapter(tmp_path)
    reader.load_adapter(tmp_path)
    assert torch.equal(logits_of_batch(taught, batch), logits_of_batch(reader, batch))


def test_a_model_without_lora_has_nothing_to_save(make_family, tmp_path):
    with pytest.raises(ConfigError, match="without LoRA"):
        make_family("qwen2_5_vl").save_adapter(tmp_path)


@pytest.mark.parametrize("shape", [(0, 50, 3), (50, 0, 3)])
def test_an_empty_view_is_refused(make_family, family, shape):
    model = make_family(family)
    with pytest.raises(DataError, match=r"view 1: .* is empty"):
        model.encode_views([np.zeros((40, 50, 3), dtype=np.uint8), np.zeros(shape, dtype=np.uint8)])


def test_a_line_is_not_for_qwen(make_family):
    with pytest.raises(DataError, match="2 x 500 px"):
        make_family("qwen2_5_vl").view_token_ids((2, 500))
