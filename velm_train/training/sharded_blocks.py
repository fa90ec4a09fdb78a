"""A module with a decoder goes in; the same module with the decoder's blocks spread over the devices comes out (FSDP2).

    sharded      every block of the decoder, LoRA inside: gathered when it runs, its gradients reduced behind it
    replicated   all else: embeddings, output layer, vision tower, projector, look-twice adapter

What is replicated and learns has its gradients averaged here, before they are clipped. Sharding it, too, would save
next to nothing, and a batch without a view, which never runs projector and adapter, would keep the others waiting.
"""

from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor


@runtime_checkable
class Gathering(Protocol):
    """A strategy after which no process has the trained model as it is."""

    def gathered(self) -> dict[str, torch.Tensor]:
        """Returns what was trained, whole, on the first process; empty on the others, which have to call, too."""
        ...


@runtime_checkable
class MeasuringNorm(Protocol):
    """A strategy that reduces, clips and uses gradients out of sight."""

    def gradient_norm(self) -> float:
        """Returns the norm of the last step's gradients over all processes, before they were clipped."""
        ...


class BlockSharding(ModelParallelStrategy):
    """FSDP2 whose checkpoints are one file of what learns."""

    def __init__(self, *, data_parallel_size: int, process_group_backend: str) -> None:
        """Spreads blocks over all devices.

        Args:
            data_parallel_size: number of processes.
            process_group_backend: nccl or gloo.
        """
        super().__init__(
            data_parallel_size=data_parallel_size,
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,
            process_group_backend=process_group_backend,
        )

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Returns what learns, whole, on the first process; gathering the frozen weights would be for nothing."""
        assert self.model is not None
        options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
        return get_model_state_dict(self.model, options=options)

    def gathered(self) -> dict[str, torch.Tensor]:
        """Returns what was trained, whole, on the first process; empty on the others, which have to call, too."""
        assert self.model is not None
        learning = {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        # The output layer has a second name where it shares its weights with the embeddings.
        return {name: tensor for name, tensor in self.lightning_module_state_dict().items() if name in learning}


def shard_blocks(decoder: nn.Module, mesh: DeviceMesh) -> None:
    """Spreads every block of a decoder over the devices of a mesh, in place.

    A block is gathered as one: what learns in it has to be of one type, frozen weights may be of another.

    Args:
        decoder: the language model without its output layer.
        mesh: one axis of all devices.
    """
    blocks: Any = decoder.layers
    for block in blocks:
        types = {parameter.dtype for parameter in block.parameters() if parameter.requires_grad}
        assert len(types) <= 1, f"a block learns in {types}, and is sharded as one"
        fully_shard(block, mesh=mesh)


def is_sharded(tensor: torch.Tensor) -> bool:
    """True for a tensor of which this process holds a share."""
    return isinstance(tensor, DTensor)


def total_norm(gradients: Iterable[torch.Tensor]) -> torch.Tensor:
    """Returns the norm of gradients of which some are shares of what all processes hold."""
    gradients = list(gradients)
    shares = [gradient for gradient in gradients if is_sharded(gradient)]
    whole = torch.nn.utils.get_total_norm([gradient for gradient in gradients if not is_sharded(gradient)])
    if not shares:
        return whole
    norm = torch.nn.utils.get_total_norm(shares)
    assert isinstance(norm, DTensor)
    return torch.hypot(whole.to(norm.device), norm.full_tensor())


def clip_sharded(parameters: Iterable[nn.Parameter], *, largest: float) -> None:
    """Scales gradients down to a total norm, as `torch.nn.utils.clip_grad_norm_` does for plain ones."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    factor = (largest / (total_norm(gradients) + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        own = gradient.to_local() if isinstance(gradient, DTensor) else gradient
        own.mul_(factor.to(own.device))


class AverageReplicated(pl.Callback):
    """Averages the gradients of what is not sharded, before anything looks at them. Must stand before the history."""

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Averages what any process has a gradient of; what none has one of keeps none."""
        del optimizer
        replicated = [p for p in pl_module.parameters() if p.requires_grad and not is_sharded(p)]
        reached = torch.tensor([float(p.grad is not None) for p in replicated], device=pl_module.device)
        if not replicated or trainer.world_size == 1:
            return
        dist.all_reduce(reached, op=dist.ReduceOp.MAX)
        for parameter, anywhere in zip(replicated, reached.tolist(), strict=True):
            if anywhere:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                dist.all_reduce(parameter.grad)
                parameter.grad /= trainer.world_size
