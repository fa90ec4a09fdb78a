"""Attention over a row equals attention under the whole row's mask, written out; what would mix samples is refused."""

import pytest
import torch
from transformers import Qwen2Config, Qwen2Model

from velm_train.core.batch import Bundle
from velm_train.core.errors import ConfigError
from velm_train.models.packing.attention import _attend, no_mask, row_attention
from velm_train.models.packing.layout import RowLayout, lay_out

BUNDLES = [
    Bundle(lengths=(4,)),
    Bundle(lengths=(6, 5, 7), num_shared=3),
    Bundle(lengths=(1,)),
    Bundle(lengths=(2, 2), num_shared=1),
]


class Grouped(torch.nn.Module):
    """What attention functions read of an attention layer."""

    num_key_value_groups = 2
    is_causal = True


@pytest.fixture
def layout(bundled_words) -> RowLayout:
    return lay_out(bundled_words(BUNDLES))


def visible(layout: RowLayout) -> torch.Tensor:
    """Walks back from every token through its own sample."""
    size = len(layout.counts)
    allowed = torch.zeros(size, size, dtype=torch.bool)
    for place in range(size):
        seen = place
        while seen != -1:
            allowed[place, seen] = True
            seen = int(layout.predecessor[seen])
    return allowed


@pytest.mark.parametrize("heads", [4, 2])
def test_row_attention_is_attention_under_the_mask_of_the_row(layout, heads):
    generator = torch.Generator().manual_seed(0)
    module = Grouped()
    module.num_key_value_groups = heads // 2
    size = len(layout.counts)
    query = torch.randn(1, heads, size, 8, generator=generator, requires_grad=True)
    key, value = (torch.randn(1, 2, size, 8, generator=generator, requires_grad=True) for _ in range(2))
    output, _ = _attend(module, query, key, value, no_mask(query.device), row_layout=layout, scaling=0.3)
    assert output.shape == (1, size, heads, 8)
    wide_key, wide_value = (part.repeat_interleave(heads // 2, dim=1) for part in (key, value))
    scores = (0.3 * query @ wide_key.transpose(2, 3)).masked_fill(~visible(layout), -torch.inf)
    expected = (scores.softmax(dim=-1) @ wide_value).transpose(1, 2)
    torch.testing.assert_close(output, expected, atol=1e-6, rtol=1e-5)
    weights = torch.randn(output.shape, generator=generator)
    found = torch.autograd.grad((output * weights).sum(), [query, key, value])
    wanted = torch.autograd.grad((expected * weights).sum(), [query, key, value])
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_decoder_that_loses_the_layout_is_stopped(layout):
    states = torch.zeros(1, 2, len(layout.counts), 8)
    module = Grouped()
    module.num_key_value_groups = 1
    with pytest.raises(AssertionError, match="got lost"):
        _attend(module, states, states, states, no_mask(states.device))


def test_the_decoder_s_own_attention_comes_back(tiny_language_model):
    decoder = tiny_language_model().get_decoder()
    inside: list[str] = []

    def fail():
        inside.append(decoder.config._attn_implementation)
        raise KeyError

    with pytest.raises(KeyError), row_attention(decoder):
        fail()
    assert inside == ["velm_train_rows"]
    assert decoder.config._attn_implementation == "sdpa"


@torch.no_grad()
def test_padded_batches_give_the_same_inside_the_block_bit_by_bit(tiny_language_model):
    decoder = tiny_language_model().get_decoder()
    states = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    before = decoder(inputs_embeds=states, attention_mask=mask).last_hidden_state
    with row_attention(decoder):
        inside = decoder(inputs_embeds=states, attention_mask=mask).last_hidden_state
    assert torch.equal(before, inside)


def test_layers_that_see_a_window_alone_are_refused():
    config = Qwen2Config(
        vocab_size=8,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        use_sliding_window=True,
        sliding_window=4,
        max_window_layers=1,
    )
    with pytest.raises(ConfigError, match=r"sliding_attention.*packing=off"), row_attention(Qwen2Model(config)):
        pass
