"""Right-padded prompts in, one reusable prefix out: last hidden states and the key-value cache to branch from."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import nn
from transformers import Cache
from transformers.utils import ModelOutput


@runtime_checkable
class CausalLanguageModel(Protocol):
    """What prefill, scoring and generation need of a language model; causal models of transformers have it."""

    def get_decoder(self) -> Callable[..., ModelOutput]:
        """Returns what maps `inputs_embeds`, mask, position counts and a cache to hidden states."""
        ...

    def get_input_embeddings(self) -> nn.Module:
        """Returns the word embeddings."""
        ...

    def get_output_embeddings(self) -> nn.Module:
        """Returns what maps hidden states to logits."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Prefix:
    """What a causal language model remembers of B prompts.

    Attributes:
        last_hidden: final hidden state of each prompt's last real token.
        attention_mask: 1 on real tokens, 0 on the padding to their right.
        lengths: real tokens of each prompt.
        cache: keys and values of all P positions, padding included.
    """

    last_hidden: Float[torch.Tensor, "B D"]
    attention_mask: Int[torch.Tensor, "B P"]
    lengths: Int[torch.Tensor, " B"]
    cache: Cache

    def branch(self, rows: Int[torch.Tensor, " branches"]) -> "Prefix":
        """Returns a copy with one row per entry, a row of this prefix as often as it is named."""
        cache = copy.deepcopy(self.cache)
        cache.batch_select_indices(rows)
        return Prefix(
            last_hidden=self.last_hidden[rows],
            attention_mask=self.attention_mask[rows],
            lengths=self.lengths[rows],
            cache=cache,
        )


def positions_of(attention_mask: Int[torch.Tensor, "B T"]) -> Int[torch.Tensor, "B T"]:
    """Returns positions that count real tokens only, whichever side the padding is on."""
    return (attention_mask.cumsum(dim=1) - 1).clamp_min(0)


def is_right_padded(attention_mask: Int[torch.Tensor, "B T"]) -> bool:
    """Returns True if every row's real tokens stand at its beginning, without a gap."""
    places = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    return torch.equal(attention_mask.bool(), places < attention_mask.sum(dim=1, keepdim=True))


def prefill(
    language_model: CausalLanguageModel,
    *,
    inputs_embeds: Float[torch.Tensor, "B P D"],
    attention_mask: Int[torch.Tensor, "B P"],
) -> Prefix:
    """Runs all prompts once.

    Args:
        language_model: a causal model whose decoder takes `inputs_embeds` and a cache, and whose output layer
            maps hidden states to logits without anything in between.
        inputs_embeds: embedded prompts, padded on the right.
        attention_mask: 1 on real tokens; every row has at least one.
    """
    lengths = attention_mask.sum(dim=1)
    assert is_right_padded(attention_mask), "prompts must be padded on the right"
    output = language_model.get_decoder()(
        inputs_embeds=inputs_embeds,
        attention_mask=attention_mask,
        position_ids=positions_of(attention_mask),
        use_cache=True,
    )
    last_hidden = output.last_hidden_state[torch.arange(len(lengths), device=lengths.device), lengths - 1]
    return Prefix(last_hidden=last_hidden, attention_mask=attention_mask, lengths=lengths, cache=output.past_key_values)


def continue_from(
    language_model: CausalLanguageModel,
    prefix: Prefix,
    *,
    token_ids: Int[torch.Tensor, "B S"],
    token_mask: Int[torch.Tensor, "B S"],
) -> Float[torch.Tensor, "B S D"]:
    """Returns hidden states of tokens that follow each prompt; the prefix's cache grows by S positions.

    Args:
        language_model: the model that made the prefix.
        prefix: changed in place through its cache; branch first to keep it.
        token_ids: next tokens, padded on the right.
        token_mask: 1 on real tokens.
    """
    attention_mask = torch.cat([prefix.attention_mask, token_mask], dim=1)
    output = language_model.get_decoder()(
        inputs_embeds=language_model.get_input_embeddings()(token_ids),
        attention_mask=attention_mask,
        position_ids=prefix.lengths[:, None] + positions_of(token_mask),
        past_key_values=prefix.cache,
        use_cache=True,
    )
    hidden: torch.Tensor = output.last_hidden_state
    return hidden


def logits_of(
    language_model: CausalLanguageModel, hidden: Float[torch.Tensor, "*dims D"]
) -> Float[torch.Tensor, "*dims V"]:
    """Returns float32 logits of hidden states."""
    logits: torch.Tensor = language_model.get_output_embeddings()(hidden)
    return logits.float()
