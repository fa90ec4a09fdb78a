"""Settings, a model and its training samples in; how its devices share the work out."""

import dataclasses
from collections.abc import Mapping
from typing import cast

import torch
from rich.table import Table

from velm_train.cli.build_engine import make_device
from velm_train.cli.build_model import adapter_optimisation
from velm_train.cli.visits import Visits
from velm_train.cli.workshop import Workshop
from velm_train.config import Config
from velm_train.config.strategies import check_sharding, check_weights
from velm_train.core.errors import ConfigError, ResourceError
from velm_train.core.memory import available_bytes
from velm_train.models.build import BuiltModel
from velm_train.training.memory import BatchSize, memory_model, memory_words
from velm_train.training.optimiser import Optimisation
from velm_train.training.samplers import SampleFacts
from velm_train.training.strategies import OFFLOADING, StrategyName, require_deepspeed, tries_batches
from velm_train.training.strategy_memory import (
    BY_SPEED,
    SAFE_SHARE,
    DeviceMemory,
    block_bytes,
    device_memory,
    fastest_that_fits,
    memory_of_device,
)


def choose_strategy(shop: Workshop, model: BuiltModel, visits: Visits) -> StrategyName:
    """Returns the strategy of the settings; for auto the fastest that fits, with the table it was chosen from.

    Raises:
        ResourceError: if none fits.
    """
    strategy = shop.config.trainer.strategy
    if strategy != "auto":
        return cast("StrategyName", strategy)
    return cast("StrategyName", shop.meeting.agree("strategy", lambda: _choose(shop, model, visits)))


def optimisation_under(strategy: StrategyName, optimisation: Optimisation) -> Optimisation:
    """Returns how the weights are moved, where a strategy keeps the optimiser in the machine's memory, there."""
    return dataclasses.replace(optimisation, kind="adamw_offloaded") if strategy in OFFLOADING else optimisation


def _choose(shop: Workshop, model: BuiltModel, visits: Visits) -> StrategyName:
    config, rank = shop.config, shop.rank
    device = make_device(config)
    room = memory_of_device(device) if device.type == "cuda" else available_bytes() // rank.num_local
    refused = {name: _why_not(config, name, num_devices=rank.world_size) for name in BY_SPEED}
    sizes = memory_model(
        model,
        model.decoder,
        precision=config.trainer.precision,
        state_bytes=adapter_optimisation(config).state_bytes,
    )
    batch = largest_batch(config, visits.facts(sharing=False))
    rows = [
        device_memory(
            name,
            sizes,
            batch,
            block=block_bytes(model.decoder),
            num_devices=rank.world_size,
            every=_blocks_again(config, name, device=device),
        )
        for name in BY_SPEED
    ]
    chosen = fastest_that_fits([row for row in rows if not refused[row.strategy]], room=room)
    shop.console.print(strategy_table(rows, refused=refused, chosen=chosen, room=room, num_devices=rank.world_size))
    if chosen is None:
        least = min((row.total for row in rows if not refused[row.strategy]), default=0)
        raise ResourceError(
            f"trainer=auto: no strategy fits into {memory_words(room)} on each of {rank.world_size} devices; the least "
            f"is {memory_words(least)}; use lora=qlora, trainer.batch_size={max(1, config.trainer.batch_size // 2)}, "
            "trainer.checkpointing=full, or more devices"
        )
    return chosen


def largest_batch(config: Config, facts: list[SampleFacts]) -> BatchSize:
    """Returns the sizes of the largest pass that the settings allow over these samples."""
    trainer = config.trainer
    longest = max(fact.num_tokens for fact in facts)
    samples = min(trainer.batch_size, len(facts))
    tokens = samples * longest
    if trainer.token_budget:
        tokens = min(tokens, trainer.token_budget)
    supervised = samples * max(fact.num_supervised for fact in facts)
    return BatchSize(samples=samples, tokens=tokens, supervised=supervised, input_bytes=0)


def _blocks_again(config: Config, name: StrategyName, *, device: torch.device) -> int:
    """Returns of how many blocks one computes its activations again: with a pre-flight as many as it may choose."""
    trainer = config.trainer
    if trainer.checkpointing == "auto":
        tried = trainer.preflight == "on" or (trainer.preflight == "auto" and device.type == "cuda")
        return int(tried and tries_batches(name))
    return {"off": 0, "every_n": trainer.checkpointing_every, "full": 1}[trainer.checkpointing]


def _why_not(config: Config, name: StrategyName, *, num_devices: int) -> str:
    """Returns why a strategy does not come into question; "" if it does."""
    trainer = config.trainer
    if (name == "single") != (num_devices == 1) and name in ("single", "ddp"):
        return "one device" if name == "ddp" else "several devices"
    try:
        check_sharding(
            name,
            packing=trainer.packing,
            compiled=trainer.compile,
            preflight=trainer.preflight,
            optimiser=trainer.optimiser,
            precision=trainer.precision,
            live_towers=trainer.augmentation.active or trainer.feature_cache == "off",
        )
        check_weights(name, quantisation=config.lora.quantisation, variant=config.lora.variant)
        if name.startswith("deepspeed"):
            require_deepspeed(name)
    except ConfigError as error:
        return str(error).split(" is not possible")[0].split(", which")[0]
    return ""


def strategy_table(
    rows: list[DeviceMemory],
    *,
    refused: Mapping[StrategyName, str],
    chosen: StrategyName | None,
    room: int,
    num_devices: int,
) -> Table:
    """Returns what each strategy takes of a device, the chosen one marked."""
    device = "device" if num_devices == 1 else "devices"
    table = Table(
        title=f"trainer=auto: memory on each of {num_devices} {device} of {memory_words(room)}, predicted",
        caption=f"the fastest one whose total is below {SAFE_SHARE:.0%} of the device is taken",
    )
    table.add_column("strategy")
    for name in ("weights", "learning", "a pass", "total"):
        table.add_column(name, justify="right")
    table.add_column("")
    for row in rows:
        verdict = "chosen" if row.strategy == chosen else "fits" if row.total <= SAFE_SHARE * room else "too large"
        sizes = [memory_words(size) for size in (row.weights, row.learning, row.passing, row.total)]
        style = "bold" if row.strategy == chosen else None
        table.add_row(row.strategy, *sizes, refused[row.strategy] or verdict, style=style)
    return table
