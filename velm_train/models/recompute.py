"""A decoder in, the same decoder that keeps less while it trains out: activations are computed again when needed."""

from typing import Any

from torch import nn
from transformers import PreTrainedModel


def recompute_activations(decoder: nn.Module, *, every: int = 1) -> None:
    """Makes blocks compute their activations again in the backward pass; the numbers stay the same bit by bit.

    The non-reentrant kind alone is used: behind frozen embeddings the reentrant kind gives LoRA no gradient at all,
    unless the embeddings are told to want one. That hook is taken off again where transformers sets it, because it
    makes gradients flow into frozen parts. Blocks do so in train mode only.

    Args:
        decoder: the language model without its output layer, so that a frozen vision tower stays out of it.
        every: 1 for all blocks, n for the first of every n; the others keep their activations.
    """
    assert isinstance(decoder, PreTrainedModel)
    kind = {"use_reentrant": False}
    if hasattr(decoder, "activation_checkpointing_enable"):
        decoder.activation_checkpointing_enable(activation_checkpointing_kwargs=kind)
    else:  # its name before transformers 5.2x
        decoder.gradient_checkpointing_enable(gradient_checkpointing_kwargs=kind)
    decoder.disable_input_require_grads()
    for index, block in enumerate(_blocks(decoder)):
        block.gradient_checkpointing = index % every == 0


def keep_activations(decoder: nn.Module) -> None:
    """Undoes `recompute_activations`."""
    modules: Any = decoder.modules()
    for module in modules:
        if hasattr(module, "gradient_checkpointing"):
            module.gradient_checkpointing = False


def _blocks(decoder: nn.Module) -> list[Any]:
    layers: Any = decoder.layers
    return list(layers)
