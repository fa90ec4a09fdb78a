"""What the configuration offers of the engine is what the engine knows."""

from typing import get_args

import pytest

from velm_train.cli.build_engine import make_engine
from velm_train.cli.build_model import adapter_optimisation, alignment_optimisation, require_machine
from velm_train.cli.compose import load_config
from velm_train.config.trainer import CHECKPOINTING, OPTIMISERS, PREFLIGHTS
from velm_train.core.errors import ConfigError
from velm_train.training.optimiser import OptimiserKind
from velm_train.training.preflight import Checkpointing, MemorySettings, Preflight


def test_the_lists_are_the_same() -> None:
    assert get_args(Checkpointing) == CHECKPOINTING
    assert get_args(Preflight) == PREFLIGHTS
    assert get_args(OptimiserKind) == (*OPTIMISERS, "adamw_offloaded"), "which a strategy brings along"


def test_by_default_nothing_is_recomputed_compiled_or_tried_on_the_cpu() -> None:
    engine = make_engine(load_config([]))
    assert engine.memory == MemorySettings(checkpointing="auto", every=2, preflight="auto")
    assert not engine.compile_blocks
    assert engine.peak_tflops is None
    assert adapter_optimisation(load_config([])).kind == "adamw"


def test_words_reach_the_engine() -> None:
    words = ["checkpointing=every_n", "checkpointing_every=3", "preflight=on", "compile=true", "peak_tflops=790"]
    config = load_config([*(f"trainer.{word}" for word in words), "trainer.optimiser=adamw_fused"])
    engine = make_engine(config)
    assert engine.memory == MemorySettings(checkpointing="every_n", every=3, preflight="on")
    assert engine.compile_blocks
    assert engine.peak_tflops == 790.0
    assert adapter_optimisation(config).kind == alignment_optimisation(config).kind == "adamw_fused"


def test_what_cannot_run_here_is_refused_before_anything_is_computed(monkeypatch, tmp_path) -> None:
    with pytest.raises(ConfigError, match="needs a GPU"):
        require_machine(load_config(["trainer.optimiser=paged_adamw_8bit"]))
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match="needs a C"):
        require_machine(load_config(["trainer.compile=true"]))
    require_machine(load_config([]))


@pytest.mark.parametrize("trainer", ["cpu", "gpu"])
def test_both_trainers_have_the_same_settings(trainer: str) -> None:
    settings = load_config([f"trainer={trainer}"]).trainer
    assert (settings.checkpointing, settings.preflight, settings.compile) == ("auto", "auto", False)
