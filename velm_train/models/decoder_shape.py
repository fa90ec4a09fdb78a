"""A language model in, the sizes that its cost depends on out: memory of its activations, operations of a step."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from velm_train.models.quantisation import num_weights

_FLOAT32_BYTES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderShape:
    """Sizes of a decoder of blocks, each an attention and a gated MLP.

    Attributes:
        num_blocks: of the decoder.
        width: of the residual stream.
        inner_width: of the MLP.
        attention_width: query heads times width of a head.
        vocabulary: rows of the output layer.
        num_weights: of the linear layers in the blocks; embeddings, norms, output layer and LoRA do not count.
        num_lora: weights of LoRA in the blocks.
        adapted_width: inputs of the layers with LoRA of one block.
    """

    num_blocks: int
    width: int
    inner_width: int
    attention_width: int
    vocabulary: int
    num_weights: int
    num_lora: int
    adapted_width: int

    def kept_bytes_per_token(self, *, value_bytes: int, cast_bytes: int) -> int:
        """Returns what one block keeps of one token for the backward pass.

        The residual stream in front of both norms is kept in float32. In the computing type: queries, keys and values
        (keys and values repeated for every query head), the attention's output, and the gate, its activation and the
        other branch of the MLP. LoRA keeps what it reads: both norms' outputs and the product of the MLP's branches
        where its type is the computing one, else a copy of its own for every layer.

        Args:
            value_bytes: of the type that is computed in.
            cast_bytes: of the type that LoRA casts its inputs to; 0 where it takes them as they are.
        """
        values = 4 * self.attention_width + 3 * self.inner_width
        read = self.adapted_width * cast_bytes or (2 * self.width + self.inner_width) * value_bytes
        return 2 * self.width * _FLOAT32_BYTES + values * value_bytes + read

    def passing_bytes_per_token(self, *, value_bytes: int, cast_bytes: int, residual_bytes: int) -> int:
        """Returns what the gradients of one token take at most on their way through a block.

        That is in the MLP: the gradients of both factors of its product, the residual stream's, and LoRA's gradient of
        what it reads in float32 where it casts it.

        Args:
            value_bytes: of the type that is computed in.
            cast_bytes: of the type that LoRA casts its inputs to; 0 where it takes them as they are.
            residual_bytes: of a value between two blocks.
        """
        of_lora = _FLOAT32_BYTES if cast_bytes else 0
        return self.inner_width * (2 * value_bytes + of_lora) + self.width * residual_bytes

    def training_operations(self, *, tokens: int, squared_lengths: int, supervised: int) -> float:
        """Returns the floating-point operations that training needs, by the 4N rule.

        Frozen weights are used once in the forward pass and once for the gradients of their inputs: 2 N operations a
        token each, and none for gradients of their own. LoRA weights take 6 a token. Causal attention reads half of
        all pairs of tokens: 2 s q forward and twice that backward, a token of a sample of s tokens and a block of
        attention width q. The output layer is run at supervised tokens alone. Neither padding nor what is computed a
        second time to save memory is counted, nor projector and look-twice adapter.

        Args:
            tokens: without padding.
            squared_lengths: sum over the samples of their length squared.
            supervised: tokens that carry loss.
        """
        in_blocks = (4.0 * self.num_weights + 6.0 * self.num_lora) * tokens
        attention = 6.0 * self.num_blocks * self.attention_width * squared_lengths
        return in_blocks + attention + 4.0 * self.vocabulary * self.width * supervised


def shape_of(decoder: nn.Module) -> DecoderShape:
    """Returns the sizes of a decoder, with or without LoRA and quantisation inside.

    Args:
        decoder: the language model without its output layer.
    """
    config: Any = decoder.config
    weights = lora = adapted = 0
    blocks: Any = decoder.layers
    for name, module in blocks.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        weight: Any = module.weight
        if ".lora_" in name:
            lora += weight.numel()
            adapted += module.in_features if ".lora_A." in name else 0
        else:
            weights += num_weights(weight)
    head_width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return DecoderShape(
        num_blocks=len(blocks),
        width=config.hidden_size,
        inner_width=config.intermediate_size,
        attention_width=config.num_attention_heads * head_width,
        vocabulary=config.vocab_size,
        num_weights=weights,
        num_lora=lora,
        adapted_width=adapted // len(blocks),
    )
