"""Sizes of a model, a batch and a machine go in; what each way to share the work takes of one device comes out.

With N devices, a decoder of blocks of B bytes each, and what `memory.py` says of one device alone:

    single, ddp      everything as alone; ddp adds its buckets, as large as the gradients
    deepspeed_2      weights as alone; 1/N of gradients, optimiser states and a float32 copy of what learns; buckets
    fsdp2            1/N of the blocks, two whole blocks at a time, all other weights; 1/N of gradients and states
    deepspeed_3      1/N of all weights, two blocks at a time, the rest as deepspeed_2
    ..._offload      without states and copies; of deepspeed_3 without its share of the weights as well

Activations, logits and the batch are those of the device's own samples in each of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from velm_train.training.memory import BatchSize, MemoryModel, estimate_memory
from velm_train.training.strategies import OFFLOADING, SHARDING, StrategyName
from velm_train.training.zero_sizes import BUCKET_ELEMENTS

_FLOAT32_BYTES = 4
_BLOCKS_AT_HAND = 2  # one that computes and one on its way
_BUCKETS = 2  # one that fills while the other is sent

SAFE_SHARE = 0.9
"""Of a device's memory: the rest is lost between blocks of other sizes, and held by the driver and its libraries."""

BY_SPEED: tuple[StrategyName, ...] = (
    "single",
    "ddp",
    "deepspeed_2",
    "fsdp2",
    "deepspeed_2_offload",
    "deepspeed_3",
    "deepspeed_3_offload",
)
"""The less is sent between devices and the machine's memory, the sooner a step is done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceMemory:
    """What one strategy takes of one device, bytes."""

    strategy: StrategyName
    weights: int
    learning: int
    passing: int

    @property
    def total(self) -> int:
        """Weights, what learning adds to them, and what a pass over the largest batch takes and gives back."""
        return self.weights + self.learning + self.passing


def block_bytes(decoder: nn.Module) -> int:
    """Returns the bytes of the decoder's largest block, LoRA inside."""
    blocks: Any = decoder.layers
    sizes = [sum(parameter.nbytes for parameter in block.parameters()) for block in blocks]
    return int(max(sizes))


def device_memory(
    strategy: StrategyName, model: MemoryModel, batch: BatchSize, *, block: int, num_devices: int, every: int
) -> DeviceMemory:
    """Returns what a strategy takes of one device.

    Args:
        strategy: which.
        model: its sizes on one device alone.
        batch: the largest of one device.
        block: bytes of a block of the decoder.
        num_devices: that share the work.
        every: blocks of which the first is computed again; 1 for all, 0 for none.
    """
    alone = estimate_memory(model, batch, every=every)
    passing = alone.passing - alone.gradients + alone.inputs  # gradients are part of what learning adds
    blocks = block * model.shape.num_blocks
    share = 1 / num_devices
    weights = float(alone.weights)
    learning = float(alone.gradients + alone.optimiser)
    if strategy == "ddp":
        learning += alone.gradients
    if strategy.startswith("deepspeed"):
        copy = _FLOAT32_BYTES * model.num_learning
        buckets = _BUCKETS * _FLOAT32_BYTES * min(BUCKET_ELEMENTS, model.num_learning)
        kept = 0 if strategy in OFFLOADING else alone.gradients + alone.optimiser + copy
        learning = kept * share + buckets
    if strategy in SHARDING:
        spread = blocks if strategy == "fsdp2" else alone.weights
        kept_weights = 0.0 if strategy in OFFLOADING else spread * share
        weights = alone.weights - spread + kept_weights + _BLOCKS_AT_HAND * block
    if strategy == "fsdp2":
        learning *= share
    return DeviceMemory(strategy=strategy, weights=round(weights), learning=round(learning), passing=passing)


def fastest_that_fits(rows: Sequence[DeviceMemory], *, room: int) -> StrategyName | None:
    """Returns the first of `BY_SPEED` that leaves room on the device; None if none does.

    Args:
        rows: of the strategies that come into question.
        room: memory of a device, bytes.
    """
    fitting = {row.strategy for row in rows if row.total <= SAFE_SHARE * room}
    return next((name for name in BY_SPEED if name in fitting), None)


def memory_of_device(device: torch.device) -> int:
    """Returns the memory of a GPU, bytes."""
    _, total = torch.cuda.mem_get_info(device)
    return int(total)
