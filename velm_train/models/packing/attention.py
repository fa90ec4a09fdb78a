"""Queries, keys and values of one row in; attention out in which every sample sees itself alone, and what it shares.

One call of torch's attention per bundle, and one more for the branches behind what they share: the cost is a sum of
squared lengths, where a block-diagonal mask over the row would cost the square of their sum. No mask of the row is
ever made, and on a GPU the causal calls find the same flash kernels as samples computed side by side.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from velm_train.core.errors import ConfigError
from velm_train.models.packing.layout import RowLayout

_NAME = "velm_train_rows"

_Span = tuple[slice, slice, torch.Tensor | None]
"""Places that ask, places that are seen, and which of the latter each of the former may see, None for causally."""


def no_mask(device: torch.device) -> Bool[torch.Tensor, "1 1 1 1"]:
    """Returns what a decoder is given for a row: it passes four-dimensional masks on, and nobody reads this one.

    With a mask of None decoders of transformers would make one of their own, as large as the row squared.
    """
    return torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)


@contextmanager
def row_attention(decoder: nn.Module) -> Iterator[None]:
    """Makes a decoder take rows: calls with `row_layout` and `no_mask`, for the length of a `with` block.

    The backward pass belongs into the block, too: a block that is computed again asks for its attention again. Calls
    without `row_layout` are computed by torch's attention, whichever the decoder uses outside.

    Args:
        decoder: the language model without its output layer; all its layers attend to everything before.

    Raises:
        ConfigError: if some layers attend to a window alone.
    """
    assert isinstance(decoder, PreTrainedModel)
    kinds = set(getattr(decoder.config, "layer_types", None) or {"full_attention"})
    if kinds != {"full_attention"}:
        raise ConfigError(
            f"trainer.packing=on is not possible: layers of this language model are of the kinds {sorted(kinds)}, and "
            "rows are for full_attention alone; set trainer.packing=off"
        )
    AttentionInterface.register(_NAME, _attend)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    before = decoder.config._attn_implementation
    decoder.set_attn_implementation(_NAME)
    try:
        yield
    finally:
        decoder.set_attn_implementation(before)


def _attend(
    module: nn.Module,
    query: Float[torch.Tensor, "B heads S d"],
    key: Float[torch.Tensor, "B groups T d"],
    value: Float[torch.Tensor, "B groups T d"],
    attention_mask: torch.Tensor | None,
    row_layout: RowLayout | None = None,
    **options: Any,  # noqa: ANN401 - whatever else transformers hands to every attention function
) -> tuple[Float[torch.Tensor, "B S heads d"], None]:
    if row_layout is None:
        # A decoder that loses the layout on its way would mix the samples in silence.
        assert attention_mask is None or attention_mask.shape[-1] == key.shape[2], "the row's layout got lost"
        plain: tuple[torch.Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return plain
    pieces = []
    for part in row_layout.parts:
        shared, own = part.start + part.num_causal, part.start + part.num_tokens
        spans: list[_Span] = [(slice(part.start, shared), slice(part.start, shared), None)]
        if part.branches is not None:
            spans.append((slice(shared, own), slice(part.start, own), part.branches[None, None]))
        pieces += [
            sdpa_attention_forward(module, query[:, :, asks], key[:, :, seen], value[:, :, seen], allowed, **options)[0]
            for asks, seen, allowed in spans
        ]
    return torch.cat(pieces, dim=1), None
