"""Parameter groups and learning rates go in; one AdamW with warm-up and cosine decay comes out.

| kind | what it is | how far its steps are from those of adamw |
|---|---|---|
| adamw | torch's, one parameter after another on the CPU, all at once on a GPU | |
| adamw_fused | torch's, each step one kernel | rounding |
| adamw_8bit | moments in 8 bits, blocks with a scale each (Dettmers et al. 2022, section 2) | 1 or 2 % of the way |
| paged_adamw_8bit | the same, moved to the machine's own memory where the GPU's is full | as adamw_8bit |
| adamw_offloaded | DeepSpeed's, on the CPU, for strategies that keep the optimiser there | rounding |

Moments of fewer than 4096 weights stay in 32 bits.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig

from velm_train.core.errors import ConfigError
from velm_train.models.quantisation import load_bitsandbytes

logger = logging.getLogger(__name__)

ParameterGroups = Mapping[str, Sequence[torch.nn.Parameter]]
"""Group name, such as "lora", -> its parameters."""

OptimiserKind = Literal["adamw", "adamw_fused", "adamw_8bit", "paged_adamw_8bit", "adamw_offloaded"]

_BYTES_PER_WEIGHT: Mapping[OptimiserKind, int] = {
    "adamw": 8,
    "adamw_fused": 8,
    "adamw_8bit": 2,
    "paged_adamw_8bit": 2,
    "adamw_offloaded": 8,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Optimisation:
    """How the weights are moved.

    Attributes:
        max_steps: optimiser steps.
        learning_rates: peak rate by group name; 0 freezes the group.
        weight_decay: of matrices; biases, norms and embeddings never decay.
        warmup_fraction: share of the steps with a linearly rising rate, 0..1.
        min_learning_rate_fraction: where the cosine ends, as a share of the peak, 0..1.
        gradient_clip: largest total gradient norm.
        kind: which AdamW.
    """

    max_steps: int
    learning_rates: Mapping[str, float]
    weight_decay: float = 0.0
    warmup_fraction: float = 0.1
    min_learning_rate_fraction: float = 0.1
    gradient_clip: float = 1.0
    kind: OptimiserKind = "adamw"

    @property
    def state_bytes(self) -> int:
        """Memory of both moments of a weight, bytes."""
        return _BYTES_PER_WEIGHT[self.kind]


def learning_rate_factor(step: int, *, max_steps: int, warmup_steps: int, min_fraction: float) -> float:
    """Returns the share of the peak rate at a step: a linear rise, then half a cosine down to `min_fraction`.

    Args:
        step: number of the optimiser step, from 0; the first warm-up step has 1 / warmup_steps, not 0.
        max_steps: steps of the whole run.
        warmup_steps: steps of the rise, may be 0.
        min_fraction: factor reached after the last step, 0..1.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, max_steps - warmup_steps)
    return min_fraction + (1 - min_fraction) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def make_optimiser(
    module: torch.nn.Module, groups: ParameterGroups, *, optimisation: Optimisation
) -> OptimizerLRSchedulerConfig:
    """Returns what Lightning's `configure_optimizers` may return.

    Args:
        module: holds every parameter of `groups`; names and embeddings are looked up in it.
        groups: parameters that learn, by group name.
        optimisation: rates, decay and schedule.

    Raises:
        ConfigError: if nothing is left to train, a group has no learning rate, or the device cannot run the optimiser.
    """
    parameter_groups = make_parameter_groups(module, groups, optimisation=optimisation)
    optimiser = _make_adamw(parameter_groups, kind=optimisation.kind)
    warmup_steps = math.ceil(optimisation.warmup_fraction * optimisation.max_steps)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: learning_rate_factor(
            step,
            max_steps=optimisation.max_steps,
            warmup_steps=warmup_steps,
            min_fraction=optimisation.min_learning_rate_fraction,
        ),
    )
    return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def require_runs_here(kind: OptimiserKind, *, device: torch.device) -> None:
    """Refuses an optimiser that this machine cannot run.

    Raises:
        ConfigError: if it needs a GPU that is not there, or bitsandbytes, which is not installed.
    """
    if kind not in ("adamw_8bit", "paged_adamw_8bit"):
        return
    if kind == "paged_adamw_8bit" and device.type != "cuda":
        raise ConfigError(
            f"trainer.optimiser is {kind!r}, which needs a GPU: it moves its states between a GPU's memory and "
            "the machine's, and on the CPU there is nothing to move; choose adamw, adamw_fused or adamw_8bit"
        )
    load_bitsandbytes(f"trainer.optimiser={kind}", instead="trainer.optimiser=adamw")


def _make_adamw(parameter_groups: list[dict[str, Any]], *, kind: OptimiserKind) -> torch.optim.Optimizer:
    require_runs_here(kind, device=parameter_groups[0]["params"][0].device)
    # Every group has its own rate; the constructor's default is never used.
    if kind in ("adamw_8bit", "paged_adamw_8bit"):
        bnb: Any = load_bitsandbytes(f"trainer.optimiser={kind}", instead="trainer.optimiser=adamw")
        in_bits: torch.optim.Optimizer = bnb.optim.AdamW8bit(
            parameter_groups, lr=0.0, is_paged=kind == "paged_adamw_8bit"
        )
        return in_bits
    if kind == "adamw_offloaded":
        from deepspeed.ops.adam import DeepSpeedCPUAdam  # noqa: PLC0415 - not always there, and slow

        on_cpu: torch.optim.Optimizer = DeepSpeedCPUAdam(parameter_groups, lr=0.0, adamw_mode=True)
        return on_cpu
    if kind == "adamw":
        return torch.optim.AdamW(parameter_groups, lr=0.0)
    fused: Any = torch.optim.AdamW(parameter_groups, lr=0.0, fused=True)
    # A fused step could undo the loss scale itself, and Lightning clips no gradients of an optimiser that does. Without
    # the mark they are scaled back before they are clipped, as for any other.
    fused._step_supports_amp_scaling = False
    optimiser: torch.optim.Optimizer = fused
    return optimiser


def make_parameter_groups(
    module: torch.nn.Module, groups: ParameterGroups, *, optimisation: Optimisation
) -> list[dict[str, Any]]:
    """Returns AdamW groups: each named group once with weight decay and once without, empty ones left out.

    Raises:
        ConfigError: if a group has no learning rate, or all rates are 0.
    """
    absent = sorted(set(groups) - set(optimisation.learning_rates))
    if absent:
        known = sorted(optimisation.learning_rates)
        raise ConfigError(f"no learning rate for parameter groups {absent}; rates are given for {known}")
    undecayed = _undecayed_ids(module)
    result: list[dict[str, Any]] = []
    for name, parameters in groups.items():
        rate = optimisation.learning_rates[name]
        learning = [parameter for parameter in parameters if parameter.requires_grad and rate > 0]
        for decays in (True, False):
            members = [parameter for parameter in learning if (id(parameter) not in undecayed) == decays]
            if members:
                decay = optimisation.weight_decay if decays else 0.0
                result.append({"name": name, "params": members, "lr": rate, "weight_decay": decay})
    if not result:
        raise ConfigError(f"nothing to train: learning rates are {dict(optimisation.learning_rates)}; set one above 0")
    for group in result:
        count = sum(parameter.numel() for parameter in group["params"])
        logger.info("%s: %d parameters, lr %g, decay %g", group["name"], count, group["lr"], group["weight_decay"])
    return result


def _undecayed_ids(module: torch.nn.Module) -> set[int]:
    """Returns ids of biases, norm weights and scalars (at most one axis) and of embeddings."""
    embeddings = {
        id(parameter)
        for child in module.modules()
        if isinstance(child, torch.nn.Embedding)
        for parameter in child.parameters(recurse=False)
    }
    vectors = {id(parameter) for parameter in module.parameters() if parameter.ndim <= 1}
    return embeddings | vectors


@contextmanager
def frozen_where_rate_is_zero(groups: ParameterGroups, *, learning_rates: Mapping[str, float]) -> Iterator[None]:
    """Switches gradients off for groups with rate 0, and on again at the end."""
    frozen = [
        parameter
        for name, parameters in groups.items()
        if name in learning_rates and learning_rates[name] == 0
        for parameter in parameters
        if parameter.requires_grad
    ]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
