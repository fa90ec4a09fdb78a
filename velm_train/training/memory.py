"""Sizes of a model and of a batch go in; the memory that training on it takes, in parts, comes out.

    weights        parameters and buffers as they are stored
    copies         of a float32 decoder's weights in the computing type, under mixed precision
    gradients      of what learns
    optimiser      states of what learns: 8 bytes a weight of AdamW, 2 of its 8-bit forms
    activations    tokens x blocks x what one block keeps of a token (`DecoderShape.kept_bytes_per_token`); of a block
                   that is computed again its input alone
    logits         supervised tokens x vocabulary x 3 in float32: logits, probabilities, their gradient
    way back       gradients on their way through one block (`DecoderShape.passing_bytes_per_token`), and that block
                   once it has been computed again; beyond the logits alone, which are gone by then
    inputs         the batch itself

Tokens include padding. Left out, because they are small beside these: activations of projector and look-twice
adapter.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from velm_train.models.decoder_shape import DecoderShape, shape_of

_FLOAT32_BYTES = 4
_LOGIT_COPIES = 3
_NF4_BYTES = 0.5 + 1 / 64  # a weight of 4 bits and its share of a block's scale, itself quantised
_GIGABYTE, _MEGABYTE = 1e9, 1e6


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryModel:
    """What does not change with the batch.

    Attributes:
        shape: of the decoder.
        stored_bytes: of parameters and buffers.
        decoder_bytes: of the decoder's linear layers among them, without LoRA.
        copied_bytes: of their copy in the computing type, 0 where they are stored in it.
        num_learning: weights that learn.
        gradient_bytes: of their gradients.
        state_bytes: of the optimiser for each of them.
        value_bytes: of the type that is computed in.
        cast_bytes: of the type that LoRA casts its inputs to; 0 where it takes them as they are.
        residual_bytes: of a value between two blocks.
    """

    shape: DecoderShape
    stored_bytes: int
    decoder_bytes: int
    copied_bytes: int
    num_learning: int
    gradient_bytes: int
    state_bytes: int
    value_bytes: int
    cast_bytes: int
    residual_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchSize:
    """What a batch's memory depends on.

    Attributes:
        samples: of the batch.
        tokens: padding included.
        supervised: tokens that carry loss.
        input_bytes: of its tensors.
    """

    samples: int
    tokens: int
    supervised: int
    input_bytes: int

    def halved(self) -> "BatchSize":
        """Returns half of the batch, at least one sample of it."""
        half = max(1, self.samples // 2) / self.samples
        return BatchSize(
            samples=max(1, self.samples // 2),
            tokens=round(self.tokens * half),
            supervised=round(self.supervised * half),
            input_bytes=round(self.input_bytes * half),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryEstimate:
    """The parts of the formula above, bytes."""

    weights: int
    copies: int
    gradients: int
    optimiser: int
    activations: int
    logits: int
    way_back: int
    inputs: int

    @property
    def total(self) -> int:
        """Their sum."""
        return sum(getattr(self, field.name) for field in dataclasses.fields(self))

    @property
    def passing(self) -> int:
        """What a forward and backward pass takes and gives back."""
        return self.copies + self.gradients + self.activations + self.logits + self.way_back


def memory_model(module: nn.Module, decoder: nn.Module, *, precision: str, state_bytes: int) -> MemoryModel:
    """Returns the sizes of a model that is about to be trained by AdamW.

    Args:
        module: everything on the device.
        decoder: the language model without its output layer, a part of it.
        precision: Lightning's, such as bf16-mixed.
        state_bytes: of the optimiser for each weight that learns.
    """
    tensors = [*module.parameters(), *module.buffers()]
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    stored = next(p.dtype for name, p in decoder.named_parameters() if p.is_floating_point() and ".lora_" not in name)
    mixed = precision != "32-true"
    layers = [
        layer.weight for name, layer in decoder.named_modules() if isinstance(layer, nn.Linear) and ".lora_" not in name
    ]
    copied = [weight for weight in layers if mixed and weight.dtype == torch.float32]
    return MemoryModel(
        shape=shape_of(decoder),
        stored_bytes=sum(tensor.nbytes for tensor in tensors),
        decoder_bytes=sum(weight.nbytes for weight in layers),
        copied_bytes=sum(2 * weight.numel() for weight in copied),
        num_learning=sum(parameter.numel() for parameter in learning),
        gradient_bytes=sum(parameter.nbytes for parameter in learning),
        state_bytes=state_bytes,
        value_bytes=2 if mixed else stored.itemsize,
        cast_bytes=2 if mixed else (0 if stored == torch.float32 else _FLOAT32_BYTES),
        residual_bytes=stored.itemsize,
    )


def estimate_memory(model: MemoryModel, batch: BatchSize, *, every: int) -> MemoryEstimate:
    """Returns what training on a batch takes.

    Args:
        model: its sizes.
        batch: its sizes.
        every: blocks of which the first is computed again; 1 for all, 0 for none.
    """
    shape = model.shape
    of_block = shape.kept_bytes_per_token(value_bytes=model.value_bytes, cast_bytes=model.cast_bytes)
    again = range(0, shape.num_blocks, every) if every else range(0)
    kept = shape.num_blocks - len(again)
    # The way back begins with all kept blocks; when it reaches the last that is computed again, those behind are gone.
    at_last_again = again[-1] - len(again) + 2 if again else 0
    of_way_back = max(0, at_last_again - kept) * of_block + shape.passing_bytes_per_token(
        value_bytes=model.value_bytes, cast_bytes=model.cast_bytes, residual_bytes=model.residual_bytes
    )
    logits = _LOGIT_COPIES * _FLOAT32_BYTES * batch.supervised * shape.vocabulary
    return MemoryEstimate(
        weights=model.stored_bytes,
        copies=model.copied_bytes,
        gradients=model.gradient_bytes,
        optimiser=model.num_learning * model.state_bytes,
        activations=batch.tokens * (kept * of_block + len(again) * shape.width * model.residual_bytes),
        logits=logits,
        way_back=max(0, batch.tokens * of_way_back - logits),
        inputs=batch.input_bytes,
    )


def quantised(model: MemoryModel) -> MemoryModel:
    """Returns the sizes with the decoder's linear layers in 4 bits (NF4)."""
    nf4 = round(model.shape.num_weights * _NF4_BYTES)
    return dataclasses.replace(
        model, stored_bytes=model.stored_bytes - model.decoder_bytes + nf4, decoder_bytes=nf4, copied_bytes=0
    )


def tensor_bytes(record: object) -> int:
    """Returns the bytes of the tensors in a batch, at any depth of its dataclasses."""
    if isinstance(record, torch.Tensor):
        return record.nbytes
    if not dataclasses.is_dataclass(record):
        return 0
    fields: Any = dataclasses.fields(record)
    return sum(tensor_bytes(getattr(record, field.name)) for field in fields)


def memory_words(num_bytes: float) -> str:
    """Returns a size in words: 3.41 GB, 250 MB."""
    if num_bytes >= _GIGABYTE:
        return f"{num_bytes / _GIGABYTE:.2f} GB"
    return f"{num_bytes / _MEGABYTE:.{0 if num_bytes >= 10 * _MEGABYTE else 1}f} MB"
