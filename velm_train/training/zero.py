"""A stage of ZeRO goes in; DeepSpeed's strategy comes out, on GPUs and on the CPU, in the numbers of plain training.

Lightning offers DeepSpeed on GPUs alone; DeepSpeed itself runs on CPUs over Gloo, which is how it is tested. Three more
things are not as they come:

    precision   DeepSpeed's bf16 would turn every weight into bfloat16, what learns included. Weights stay as they are
                and autocast computes, as with every other strategy.
    stage 3     the model is on the CPU when DeepSpeed gets it, whole, in every process. It is spread tensor by tensor,
                so that no device ever holds more than its share and the tensor at hand.
    averaging   Lightning divides the loss by the number of accumulated passes, and so does DeepSpeed: once is enough.
"""

import argparse
import logging
import sys
from typing import Any, Literal

import deepspeed
import pytorch_lightning as pl
import torch
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.plugins.precision import DeepSpeedPrecision
from pytorch_lightning.strategies import DDPStrategy, DeepSpeedStrategy
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from velm_train.training.zero_sizes import BUCKET_ELEMENTS

Stage = Literal[2, 3]


class ZeroPrecision(DeepSpeedPrecision):
    """Leaves weights in the types they have; the module itself computes under autocast."""

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Returns the module as it is."""
        return module

    def backward(  # type: ignore[override]
        self, tensor: torch.Tensor, model: pl.LightningModule, optimizer: object
    ) -> None:
        """Lets DeepSpeed run the backward pass of a loss that is divided already."""
        del optimizer
        engine: Any = model.trainer.model
        engine.backward(tensor, scale_wrt_gas=False)


class ZeroStrategy(DeepSpeedStrategy):
    """ZeRO of stage 2 or 3."""

    def __init__(
        self,
        *,
        stage: Stage,
        offload: bool,
        process_group_backend: str,
        precision: Literal["32-true", "bf16-mixed", "16-mixed"],
    ) -> None:
        """Sets DeepSpeed up; nothing is started yet.

        Args:
            stage: 2 spreads gradients and optimiser states, 3 the weights, too.
            offload: whether what is spread lies in the machine's own memory.
            process_group_backend: nccl or gloo.
            precision: Lightning's.
        """
        on_gpu = process_group_backend == "nccl"
        super().__init__(
            config=_settings(stage, offload=offload, on_gpu=on_gpu),
            process_group_backend=process_group_backend,
            precision_plugin=ZeroPrecision(precision),
            exclude_frozen_parameters=True,
            logging_level=logging.WARNING,
        )
        self._scalars: list[nn.Parameter] = []

    def setup_environment(self) -> None:
        """Joins the other processes, on the CPU as well."""
        if isinstance(self.accelerator, CPUAccelerator):
            DDPStrategy.setup_environment(self)
        else:
            super().setup_environment()

    def setup_distributed(self) -> None:
        """Joins the other processes."""
        if not isinstance(self.accelerator, CPUAccelerator):
            super().setup_distributed()
            return
        # Shared memory between CPU processes would save little, and its code is compiled for a minute first.
        backend: Any = sys.modules["deepspeed.comm.torch"]
        backend.build_shm_op = lambda: None
        self.set_world_ranks()
        self._init_deepspeed_distributed()

    def _setup_model_and_optimizer(
        self, model: nn.Module, optimizer: Optimizer | None, lr_scheduler: LRScheduler | None = None
    ) -> tuple[Any, Any]:
        """Gives the model to DeepSpeed, at stage 3 already in shares."""
        self._scalars = [parameter for parameter in model.parameters() if parameter.ndim == 0]
        for scalar in self._scalars:  # which DeepSpeed cannot send; a vector of one number computes the same
            scalar.data = scalar.data.reshape(1)
        if self.zero_stage_3:
            deepspeed.zero.Init(module=model, config_dict_or_path=self.config, mem_efficient_linear=False)
        device = self.local_rank if self.root_device.index is None else self.root_device.index
        engine, sharded_optimizer, _, _ = deepspeed.initialize(
            args=argparse.Namespace(device_rank=device),
            config=self.config,
            model=model,
            model_parameters=[parameter for parameter in model.parameters() if parameter.requires_grad],
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            dist_init_required=False,
        )
        return engine, sharded_optimizer

    def teardown(self) -> None:
        """Gives a model that is still whole its shapes back."""
        super().teardown()
        if not self.zero_stage_3:
            for scalar in self._scalars:
                scalar.data = scalar.data.reshape(())

    def gradient_norm(self) -> float:
        """Returns the norm of the last step's gradients over all processes, before they were clipped."""
        return float(self.deepspeed_engine.get_global_grad_norm() or 0.0)

    def gathered(self) -> dict[str, torch.Tensor]:
        """Returns what was trained, whole, on the first process; empty on the others, which have to call, too."""
        module = self.lightning_module
        assert module is not None
        learning = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
        whole: dict[str, torch.Tensor] = {}
        for name, parameter in learning.items():
            with deepspeed.zero.GatheredParameters([parameter], enabled=self.zero_stage_3):
                if self.is_global_zero:
                    tensor = parameter.detach().to("cpu", copy=True)
                    whole[name] = tensor.reshape(()) if any(parameter is one for one in self._scalars) else tensor
        return whole


def _settings(stage: Stage, *, offload: bool, on_gpu: bool) -> dict[str, Any]:
    """Returns DeepSpeed's settings; Lightning adds accumulation and clipping."""
    zero: dict[str, Any] = {
        "stage": stage,
        "contiguous_gradients": True,
        "overlap_comm": on_gpu,
        "reduce_bucket_size": BUCKET_ELEMENTS,
        "allgather_bucket_size": BUCKET_ELEMENTS,
        "memory_efficient_linear": False,
    }
    kept = {"device": "cpu", "pin_memory": on_gpu}
    if offload:
        zero["offload_optimizer"] = kept
    if offload and stage == 3:
        zero["offload_param"] = kept
    return {
        "train_micro_batch_size_per_gpu": 1,  # for DeepSpeed's own figures of speed alone
        "zero_allow_untested_optimizer": True,
        "zero_optimization": zero,
        "bf16": {"enabled": False},
        "fp16": {"enabled": False},
    }
