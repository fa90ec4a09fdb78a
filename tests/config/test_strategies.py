"""Strategies are refused with what cannot work under them, naming what can; every trainer of the shipped ones loads."""

from typing import get_args

import pytest

from velm_train.cli.build_engine import make_engine, sharing_settings
from velm_train.cli.choose_strategy import optimisation_under
from velm_train.cli.compose import conf_dir, load_config
from velm_train.config.strategies import DEEPSPEED, OFFLOADING, SHARDING, STRATEGIES
from velm_train.core.errors import ConfigError
from velm_train.core.ranks import ONLY_RANK, Rank
from velm_train.training import strategies
from velm_train.training.optimiser import Optimisation

TRAINERS = sorted(path.stem for path in (conf_dir() / "trainer").glob("*.yaml"))
SPREAD = ("fsdp2", "deepspeed_3", "deepspeed_3_offload")


def test_settings_and_training_know_the_same_strategies() -> None:
    assert {*get_args(strategies.StrategyName), "auto"} == {*STRATEGIES}
    assert strategies.SHARDING == SHARDING == SPREAD
    assert strategies.OFFLOADING == OFFLOADING
    assert {*DEEPSPEED} == {name for name in STRATEGIES if name.startswith("deepspeed")}


@pytest.mark.parametrize("name", TRAINERS)
def test_every_shipped_trainer_is_possible(name) -> None:
    config = load_config([f"trainer={name}"])
    expected = {"cpu": "single", "gpu": "single", "ddp_sim": "ddp", "multi_node": "ddp"}
    assert config.trainer.strategy == expected.get(name, name)


def test_ddp_sim_sees_as_many_samples_a_step_as_the_cpu() -> None:
    alone, two = load_config([]).trainer, load_config(["trainer=ddp_sim"]).trainer
    assert two.devices is not None
    assert alone.batch_size * alone.accumulate == two.batch_size * two.accumulate * two.devices


@pytest.mark.parametrize(
    ("words", "got", "instead"),
    [
        (("trainer.devices=2",), "trainer.strategy=single", "ddp"),
        (("trainer.num_nodes=2",), "trainer.strategy=single", "ddp"),
        (("trainer.devices=null",), "trainer.strategy=single", "trainer.devices=null"),
        (("trainer=ddp", "trainer.devices=0"), "trainer.devices=0", "1 or more"),
        (("trainer.strategy=fsdp",), "trainer.strategy=fsdp", "fsdp2"),
        *[((f"trainer={name}", "lora=qlora"), "lora.quantisation=nf4", "ddp or deepspeed_2") for name in SPREAD],
        *[((f"trainer={name}", "trainer.packing=on"), "trainer.packing=on", "deepspeed_2") for name in SPREAD],
        *[
            ((f"trainer={name}", "trainer.compile=true"), "trainer.compile=True", "ddp")
            for name in (*SPREAD, *DEEPSPEED)
        ],
        *[((f"trainer={name}", "trainer.preflight=on"), "trainer.preflight=on", "auto or off") for name in SPREAD],
        *[
            ((f"trainer={name}", "trainer.optimiser=adamw_8bit"), "trainer.optimiser=adamw_8bit", "ddp takes any")
            for name in (*SPREAD, *DEEPSPEED)
        ],
        *[
            ((f"trainer={name}", "trainer.precision=16-mixed"), "16-mixed", "bf16-mixed")
            for name in (*SPREAD, *DEEPSPEED)
        ],
        (("trainer=deepspeed_2", "trainer.optimiser=adamw_fused"), "adamw_fused", "adamw with"),
        (("trainer=deepspeed_3", "trainer.feature_cache=off"), "trainer.strategy=deepspeed_3", "fsdp2"),
        (("trainer=deepspeed_3", "trainer.augmentation.flips=true"), "trainer.strategy=deepspeed_3", "fsdp2"),
        (("trainer=deepspeed_3", "lora=dora"), "lora.variant=dora", "fsdp2"),
    ],
)
def test_what_cannot_work_is_refused_with_what_can(words, got, instead) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(list(words))
    assert got in str(caught.value)
    assert instead in str(caught.value)


@pytest.mark.parametrize("words", [("trainer=ddp", "lora=qlora"), ("trainer=deepspeed_2", "lora=qlora")])
def test_quantised_weights_are_kept_whole_on_every_device(words) -> None:
    load_config(list(words))


def test_one_device_changes_no_key() -> None:
    assert sharing_settings(load_config([]), rank=ONLY_RANK) == {}
    two = sharing_settings(load_config(["trainer=ddp_sim"]), rank=Rank(number=1, world_size=2))
    assert two == {"processes": 2, "strategy": "ddp"}


def test_the_engine_of_several_processes() -> None:
    config, rank = load_config(["trainer=ddp_sim"]), Rank(number=1, world_size=2, local_number=1, num_local=2)
    together, alone = make_engine(config, strategy="ddp", rank=rank), make_engine(config, rank=rank)
    assert (together.strategy, together.devices, together.rank) == ("ddp", 2, rank)
    assert (alone.strategy, alone.devices, alone.rank) == ("single", 1, ONLY_RANK)


def test_no_batch_is_tried_where_others_would_wait() -> None:
    config, rank = load_config(["trainer=ddp_sim"]), Rank(number=0, world_size=2)
    assert make_engine(config, strategy="ddp", rank=rank).memory.preflight == "auto"
    assert make_engine(config, strategy="fsdp2", rank=rank).memory.preflight == "off"


def test_what_is_offloaded_needs_an_optimiser_that_runs_there() -> None:
    optimisation = Optimisation(max_steps=1, learning_rates={})
    kinds = {name: optimisation_under(name, optimisation).kind for name in get_args(strategies.StrategyName)}
    assert {name for name, kind in kinds.items() if kind == "adamw_offloaded"} == {*OFFLOADING}
    assert kinds["ddp"] == "adamw"


def test_deepspeed_that_is_not_installed_is_named(monkeypatch) -> None:
    monkeypatch.setattr(strategies, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"velm_train\[gpu\].*trainer=fsdp2"):
        strategies.require_deepspeed("deepspeed_3")
    with pytest.raises(ConfigError, match="trainer=ddp"):
        strategies.require_deepspeed("deepspeed_2")
