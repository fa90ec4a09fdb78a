"""How several devices share a training, as `trainer` says; refused where it cannot work, with what can."""

from velm_train.config.checks import at_least, one_of, require

SHARDING = ("fsdp2", "deepspeed_3", "deepspeed_3_offload")
"""Strategies that spread the frozen weights over the devices, so that no device holds the model as it is."""

DEEPSPEED = ("deepspeed_2", "deepspeed_2_offload", "deepspeed_3", "deepspeed_3_offload")
OFFLOADING = ("deepspeed_2_offload", "deepspeed_3_offload")
STRATEGIES = ("single", "ddp", "fsdp2", *DEEPSPEED, "auto")


def check_devices(strategy: str, *, devices: int | None, num_nodes: int) -> None:
    """Checks the settings that say how many devices there are.

    Args:
        strategy: of `trainer`.
        devices: of each machine; None for all there are.
        num_nodes: machines.
    """
    one_of("trainer.strategy", strategy, STRATEGIES)
    if devices is not None:
        at_least("trainer.devices", devices, 1)
    at_least("trainer.num_nodes", num_nodes, 1)
    require(
        strategy != "single" or (devices == 1 and num_nodes == 1),
        key="trainer.strategy",
        got=strategy,
        allowed=f"{', '.join(STRATEGIES[1:])} with trainer.devices={_word(devices)} and trainer.num_nodes={num_nodes}; "
        "ddp suits any model that fits on one device",
    )


def _word(value: int | None) -> str:
    return "null" if value is None else str(value)


def check_sharding(
    strategy: str, *, packing: str, compiled: bool, preflight: str, optimiser: str, precision: str, live_towers: bool
) -> None:
    """Refuses settings of `trainer` that do not work with its strategy.

    Args:
        strategy: of `trainer`.
        packing: on or off.
        compiled: whether the language model's blocks are to run as compiled code.
        preflight: auto, on or off.
        optimiser: of `trainer`.
        precision: Lightning's.
        live_towers: whether the vision towers are to run while training.
    """
    sharded, deepspeed = strategy in SHARDING, strategy in DEEPSPEED
    with_it = f"with trainer.strategy={strategy}"
    require(
        packing == "off" or not sharded,
        key="trainer.packing",
        got=packing,
        allowed=f"off {with_it}: rows are tried against samples one by one, and for that every device has to hold the "
        "whole model; ddp and deepspeed_2 pack",
    )
    require(
        not compiled or not (sharded or deepspeed),
        key="trainer.compile",
        got=compiled,
        allowed=f"false {with_it}; ddp compiles",
    )
    require(
        preflight != "on" or not (sharded or deepspeed),
        key="trainer.preflight",
        got=preflight,
        allowed=f"auto or off {with_it}: a pass on trial that fails on one device would leave the others waiting; ddp "
        "tries",
    )
    allowed = ("adamw",) if deepspeed else ("adamw", "adamw_fused")
    require(
        optimiser in allowed or not (sharded or deepspeed),
        key="trainer.optimiser",
        got=optimiser,
        allowed=f"{' or '.join(allowed)} {with_it}, which spreads the optimiser's states itself; ddp takes any",
    )
    require(
        precision != "16-mixed" or not (sharded or deepspeed),
        key="trainer.precision",
        got=precision,
        allowed=f"32-true or bf16-mixed {with_it}",
    )
    require(
        not live_towers or not strategy.startswith("deepspeed_3"),
        key="trainer.strategy",
        got=strategy,
        allowed="ddp, fsdp2 or deepspeed_2 with trainer.feature_cache=off or trainer.augmentation: deepspeed_3 spreads "
        "the vision tower, too, and no device could run it by itself",
    )


def check_weights(strategy: str, *, quantisation: str, variant: str) -> None:
    """Refuses kinds of weights that a strategy cannot spread over devices.

    Args:
        strategy: of `trainer`.
        quantisation: of `lora`.
        variant: of `lora`.
    """
    require(
        quantisation == "none" or strategy not in SHARDING,
        key="lora.quantisation",
        got=quantisation,
        allowed=f"none with trainer.strategy={strategy}: weights of 4 or 8 bits cannot be spread over devices; with "
        "ddp or deepspeed_2 every device holds a quantised copy of its own",
    )
    require(
        variant != "dora" or not strategy.startswith("deepspeed_3"),
        key="lora.variant",
        got=variant,
        allowed=f"lora, rslora or pissa with trainer.strategy={strategy}: DoRA measures frozen weights that are spread "
        "over the devices; ddp, fsdp2 and deepspeed_2 take it",
    )
