"""The name of a way to share training between devices goes in; Lightning's strategy for it comes out.

| name | each device holds | between devices |
|---|---|---|
| single | everything, alone | |
| ddp | everything | gradients averaged |
| deepspeed_2 | all weights, its share of gradients and optimiser states | gradients reduced, weights gathered a step |
| fsdp2 | its share of the blocks, one whole block at a time, all else | weights of blocks gathered, gradients reduced |
| deepspeed_3 | its share of everything, one layer at a time | as fsdp2, layer by layer |
| ..._offload | as without, the optimiser's states (of deepspeed_3 the weights, too) in the machine's memory | |

The loss is summed over all devices in each of them: see `module.py`. No strategy starts a process; `cluster.py` tells
Lightning who is there.
"""

import os
from importlib.util import find_spec
from typing import Literal

from pytorch_lightning.strategies import DDPStrategy, Strategy

from velm_train.core.errors import ConfigError
from velm_train.core.ranks import Rank
from velm_train.training.sharded_blocks import BlockSharding

StrategyName = Literal[
    "single", "ddp", "fsdp2", "deepspeed_2", "deepspeed_2_offload", "deepspeed_3", "deepspeed_3_offload"
]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]

SHARDING: tuple[StrategyName, ...] = ("fsdp2", "deepspeed_3", "deepspeed_3_offload")
"""After these no process has the trained model as it is: what was trained has to be gathered."""

OFFLOADING: tuple[StrategyName, ...] = ("deepspeed_2_offload", "deepspeed_3_offload")


def tries_batches(name: StrategyName) -> bool:
    """True if one process may run a batch by itself, to see whether it fits."""
    return name in ("single", "ddp")


def make_strategy(name: StrategyName, *, rank: Rank, on_gpu: bool, precision: Precision) -> Strategy | str:
    """Returns Lightning's strategy; processes talk over NCCL between GPUs and over Gloo between CPUs.

    Args:
        name: which.
        rank: this process.
        on_gpu: whether it trains on a GPU.
        precision: Lightning's.

    Raises:
        ConfigError: if DeepSpeed is asked for and not installed.
    """
    backend = "nccl" if on_gpu else "gloo"
    if name == "single":
        return "auto"
    if name == "ddp":
        # What learns may not be reached by any sample of a step, and then has no gradient on any device; nothing
        # writes to buffers.
        return DDPStrategy(process_group_backend=backend, find_unused_parameters=True, broadcast_buffers=False)
    if name == "fsdp2":
        return BlockSharding(data_parallel_size=rank.world_size, process_group_backend=backend)
    require_deepspeed(name)
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if on_gpu else "cpu")
    from velm_train.training.zero import ZeroStrategy  # noqa: PLC0415 - deepspeed is not always there

    stage: Literal[2, 3] = 3 if name.startswith("deepspeed_3") else 2
    return ZeroStrategy(stage=stage, offload=name in OFFLOADING, process_group_backend=backend, precision=precision)


def require_deepspeed(name: StrategyName) -> None:
    """Refuses a strategy of DeepSpeed where it is not installed.

    Raises:
        ConfigError: naming what to install and what to use instead.
    """
    if find_spec("deepspeed") is None:
        instead = "fsdp2" if name in SHARDING else "ddp"
        raise ConfigError(
            f"trainer.strategy={name} needs DeepSpeed, which is not installed: pip install 'velm_train[gpu]', or use "
            f"trainer={instead}"
        )
