"""Greedy responses equal the argmax of a full forward pass at every step."""

import pytest
import torch

from velm_train.models.generation import generate_greedily
from velm_train.models.prefix import logits_of, prefill

PROMPTS = [[5, 9, 11, 3, 8, 40], [7], [12, 13, 14]]


@pytest.fixture
def language_model(tiny_language_model):
    return tiny_language_model()


@pytest.fixture
def prefix(language_model):
    input_ids = torch.tensor([prompt + [0] * (6 - len(prompt)) for prompt in PROMPTS])
    attention_mask = torch.tensor([[1] * len(prompt) + [0] * (6 - len(prompt)) for prompt in PROMPTS])
    with torch.no_grad():
        embeds = language_model.get_input_embeddings()(input_ids)
        return prefill(language_model, inputs_embeds=embeds, attention_mask=attention_mask)


def _greedy_without_cache(language_model, prompt, *, steps):
    token_ids = list(prompt)
    for _ in range(steps):
        token_ids.append(int(language_model(torch.tensor([token_ids])).logits[0, -1].argmax()))
    return token_ids[len(prompt) :]


@torch.no_grad()
def test_prefill_logits_equal_a_full_forward(language_model, prefix):
    logits = logits_of(language_model, prefix.last_hidden)
    for row, prompt in enumerate(PROMPTS):
        expected = language_model(torch.tensor([prompt])).logits[0, -1]
        torch.testing.assert_close(logits[row], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_responses_equal_greedy_decoding_without_a_cache(language_model, prefix):
    responses = generate_greedily(language_model, prefix, max_new_tokens=6, stop_token_ids=())
    assert responses == [_greedy_without_cache(language_model, prompt, steps=6) for prompt in PROMPTS]


@torch.no_grad()
def test_a_row_ends_before_its_stop_token_while_others_go_on(language_model, prefix):
    free = generate_greedily(language_model, prefix, max_new_tokens=6, stop_token_ids=())
    stop = free[0][2]
    stopped = generate_greedily(language_model, prefix, max_new_tokens=6, stop_token_ids={stop})
    for response, full in zip(stopped, free, strict=True):
        assert response == (full[: full.index(stop)] if stop in full else full)
    assert len(stopped[0]) <= 2
