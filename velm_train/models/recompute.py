"""A decoder in, the same decoder that keeps less while it trains out: activations are computed again when needed."""

from transformers import PreTrainedModel


def recompute_activations(decoder: PreTrainedModel) -> None:
    """Makes every block compute its activations again in the backward pass; the numbers stay the same bit by bit.

    The non-reentrant kind alone is used: behind frozen embeddings the reentrant kind gives LoRA no gradient at all,
    unless the embeddings are told to want one. That hook is taken off again where transformers sets it, because it
    makes gradients flow into frozen parts. Blocks do so in train mode only.

    Args:
        decoder: the language model without its output layer, so that a frozen vision tower stays out of it.
    """
    kind = {"use_reentrant": False}
    if hasattr(decoder, "activation_checkpointing_enable"):
        decoder.activation_checkpointing_enable(activation_checkpointing_kwargs=kind)
    else:  # its name before transformers 5.2x
        decoder.gradient_checkpointing_enable(gradient_checkpointing_kwargs=kind)
    decoder.disable_input_require_grads()
