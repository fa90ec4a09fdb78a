"""Checked settings and this process in; the devices that it computes on out."""

import os
from typing import Any, cast

import torch

from velm_train.cli.ranks import num_devices, require_accelerator
from velm_train.config import Config
from velm_train.core.ranks import ONLY_RANK, Rank
from velm_train.training.engine import Engine
from velm_train.training.preflight import MemorySettings
from velm_train.training.strategies import StrategyName, tries_batches


def take_device(config: Config, rank: Rank) -> None:
    """Makes this process compute on its own device, and leave the other processes' threads to them."""
    on_cpu = config.trainer.accelerator == "cpu" or not torch.cuda.is_available()
    if not on_cpu and rank.world_size > 1:
        torch.cuda.set_device(rank.local_number)
    threads = config.threads
    if on_cpu and rank.num_local > 1:
        threads = max(1, (threads or os.cpu_count() or 1) // rank.num_local)
    if threads > 0:
        torch.set_num_threads(threads)


def make_device(config: Config) -> torch.device:
    """Returns where detector, frozen towers and answers are computed: where the trainer trains.

    Raises:
        ConfigError: if that is a GPU and there is none.
    """
    accelerator = config.trainer.accelerator
    if accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    require_accelerator(config)
    return torch.device("cuda", torch.cuda.current_device())


def make_engine(config: Config, *, strategy: StrategyName = "single", rank: Rank = ONLY_RANK) -> Engine:
    """Returns where Lightning runs one stage.

    Args:
        config: checked settings.
        strategy: of this stage: single for what one process trains while the others wait.
        rank: this process of the run.
    """
    trainer = config.trainer
    together = strategy != "single"
    tries = tries_batches(strategy)
    return Engine(
        accelerator=trainer.accelerator,
        devices=num_devices(config) if together else _own_device(config, rank),
        num_nodes=trainer.num_nodes if together else 1,
        strategy=strategy,
        rank=rank if together else ONLY_RANK,
        precision=cast("Any", trainer.precision),
        memory=MemorySettings(
            checkpointing=cast("Any", trainer.checkpointing),
            every=trainer.checkpointing_every,
            preflight=cast("Any", trainer.preflight) if tries else "off",
        ),
        compile_blocks=trainer.compile,
        peak_tflops=trainer.peak_tflops,
    )


def _own_device(config: Config, rank: Rank) -> int | list[int]:
    """Returns Lightning's name of this process's device: one core of the CPU, or a GPU by its number."""
    on_cpu = config.trainer.accelerator == "cpu" or not torch.cuda.is_available()
    return 1 if on_cpu else [rank.local_number]


def sharing_settings(config: Config, *, rank: Rank) -> dict[str, Any]:
    """Returns what of the sharing between devices changes the trained weights, for the artefact's key.

    More processes see more samples a step. The strategies differ by no more than rounding; one that was asked for is
    trained all the same.
    """
    if rank.world_size == 1 and config.trainer.strategy in ("single", "auto"):
        return {}
    return {"processes": rank.world_size, "strategy": config.trainer.strategy}
