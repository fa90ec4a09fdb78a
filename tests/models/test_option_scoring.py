"""Options scored in one packed pass equal options scored in full sequences, one at a time."""

import pytest
import torch

from velm_train.models.option_scoring import score_options, visible
from velm_train.models.prefix import prefill

PROMPTS = [[5, 9, 11, 3, 8, 40], [7], [12, 13, 14, 15]]
OPTIONS = [
    [[20, 2], [21, 22, 23, 2], [2]],
    [[30, 31, 2], [30, 2]],
    [[33], [34, 35], [36, 37, 38, 39, 40], [20, 2], [33]],
]


@pytest.fixture
def language_model(tiny_language_model):
    return tiny_language_model()


def _score(language_model, prompts, options):
    longest = max(map(len, prompts))
    input_ids = torch.tensor([prompt + [0] * (longest - len(prompt)) for prompt in prompts])
    attention_mask = torch.tensor([[1] * len(prompt) + [0] * (longest - len(prompt)) for prompt in prompts])
    embeds = language_model.get_input_embeddings()(input_ids)
    return score_options(language_model, inputs_embeds=embeds, attention_mask=attention_mask, options=options)


def _score_alone(language_model, prompt, option):
    logits = language_model(torch.tensor([prompt + option])).logits[0].log_softmax(-1)
    return sum(logits[len(prompt) - 1 + place, token] for place, token in enumerate(option))


@torch.no_grad()
def test_scores_equal_full_sequences_scored_separately(language_model):
    scores = _score(language_model, PROMPTS, OPTIONS)
    for row, (prompt, row_options) in enumerate(zip(PROMPTS, OPTIONS, strict=True)):
        expected = torch.stack([_score_alone(language_model, prompt, option) for option in row_options])
        torch.testing.assert_close(scores[row], expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_scores_of_a_row_do_not_depend_on_the_batch(language_model):
    together = _score(language_model, PROMPTS, OPTIONS)
    alone = _score(language_model, PROMPTS[1:2], OPTIONS[1:2])
    torch.testing.assert_close(together[1], alone[0], atol=1e-4, rtol=0)


@torch.no_grad()
def test_all_one_token_answers_have_a_total_probability_of_one(language_model):
    every_token = [[[token] for token in range(64)]]
    assert _score(language_model, PROMPTS[:1], every_token)[0].exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_an_option_sees_the_prompt_and_itself_and_no_other_option():
    attention_mask = torch.tensor([[1, 1, 0]])
    option, offset = torch.tensor([[0, 0, 1, -1]]), torch.tensor([[0, 1, 0, 0]])
    expected = torch.tensor(
        [
            [1, 0, 0, 0, 0, 0, 0],
            [1, 1, 0, 0, 0, 0, 0],
            [1, 1, 1, 0, 0, 0, 0],  # padding: sees itself, nobody sees it
            [1, 1, 0, 1, 0, 0, 0],
            [1, 1, 0, 1, 1, 0, 0],
            [1, 1, 0, 0, 0, 1, 0],
            [1, 1, 0, 0, 0, 0, 1],
        ]
    )
    assert torch.equal(visible(attention_mask, option=option, offset=offset)[0].long(), expected)


def test_prompts_padded_on_the_left_are_refused(language_model):
    embeds = torch.zeros(1, 3, 32)
    with pytest.raises(AssertionError, match="padded on the right"):
        prefill(language_model, inputs_embeds=embeds, attention_mask=torch.tensor([[0, 1, 1]]))
    with pytest.raises(AssertionError, match="padded on the right"):
        score_options(language_model, inputs_embeds=embeds, attention_mask=torch.tensor([[0, 1, 1]]), options=[[[3]]])
