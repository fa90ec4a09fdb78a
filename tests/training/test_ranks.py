"""Several processes train what one does: losses, gradients and weights, whatever the strategy."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from velm_train.core.ranks import free_port

PROGRAM = Path(__file__).parent / "rank_program.py"
OPTIONS: dict[str, Any] = {
    "strategy": "single",
    "accumulate": 2,
    "steps": 3,
    "dropout": 0.2,
    "dtype": "float32",
    "precision": "32-true",
    "text_only": False,
    "nan_at": None,
    "checkpointing": "off",
    "optimiser": "adamw",
    "checkpoint_every": 100,
    "accelerator": "cpu",
}
STRATEGIES = ("ddp", "fsdp2", "deepspeed_2", "deepspeed_3")
needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
pytestmark = pytest.mark.slow


def each(*names: str) -> list[Any]:
    return [pytest.param(name, marks=needs_deepspeed if "deepspeed" in name else ()) for name in names]


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """What the processes of a training left; without rows and weights if one has failed."""

    statuses: tuple[int, ...]
    stderr: tuple[str, ...]
    rows: list[dict[str, float]]
    weights: dict[str, torch.Tensor]
    first_step: int


def train(folder: Path, *, world_size: int, **options: Any) -> Trained:
    folder.mkdir(exist_ok=True)
    port = str(free_port())
    words = [sys.executable, str(PROGRAM), str(folder), json.dumps(OPTIONS | options)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = []
    for number in range(world_size):
        own = {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(world_size), "MASTER_PORT": port}
        env = environment | (own | {"MASTER_ADDR": "127.0.0.1"} if world_size > 1 else {})
        processes.append(subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
    stderr = tuple(process.communicate(timeout=300)[1] for process in processes)
    statuses = tuple(process.returncode for process in processes)
    if any(statuses):
        return Trained(statuses=statuses, stderr=stderr, rows=[], weights={}, first_step=0)
    with (folder / "history.csv").open() as stream:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(stream)]
    out = torch.load(folder / "out.pt", weights_only=True)
    return Trained(
        statuses=statuses, stderr=stderr, rows=rows, weights=out["weights"], first_step=int(out["first_step"])
    )


def assert_same(one: Trained, several: Trained, *, loss: float = 1e-6, weights: float = 3e-4) -> None:
    """Checks history and weights; how far they may be apart: `loss` relative, `weights` absolute.

    AdamW makes much of little: a step moves a weight by 0.01, however small its gradient is.
    """
    assert several.statuses == (0,) * len(several.statuses), several.stderr
    assert len(one.rows) == len(several.rows)
    for row, other in zip(one.rows, several.rows, strict=True):
        for name in ("loss/total", "loss/language", "loss/image"):
            assert other[name] == pytest.approx(row[name], rel=loss), name
        assert other["gradient_norm"] == pytest.approx(row["gradient_norm"], rel=10 * loss)
        for name in ("step", "lr/lora", "lr/projector", "samples", "useful_tokens", "supervised_tokens"):
            assert other[name] == pytest.approx(row[name], rel=1e-12), name
        assert other["padding_fraction"] == pytest.approx(row["padding_fraction"])
    assert one.weights.keys() == several.weights.keys()
    for name, tensor in one.weights.items():
        assert several.weights[name].shape == tensor.shape, name
        torch.testing.assert_close(several.weights[name], tensor, rtol=0.0, atol=weights, msg=name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Trained]:
    """Trains in one process, once for each choice of options."""
    known: dict[str, Trained] = {}

    def run(**options: Any) -> Trained:
        name = json.dumps(options, sort_keys=True)
        if name not in known:
            known[name] = train(tmp_path_factory.mktemp("alone"), world_size=1, **options)
            assert known[name].statuses == (0,), known[name].stderr
        return known[name]

    return run


@pytest.mark.parametrize("strategy", each(*STRATEGIES))
def test_two_processes_train_what_one_does_that_accumulates_twice_as_much(strategy, alone, tmp_path) -> None:
    """With dropout, clipping, answers of 1 to 3 tokens, and 7 samples that do not divide by 4 a step."""
    assert_same(alone(), train(tmp_path, world_size=2, strategy=strategy, accumulate=1))


def test_ddp_leaves_the_very_same_weights(alone, tmp_path) -> None:
    two = train(tmp_path, world_size=2, strategy="ddp", accumulate=1)
    assert two.statuses == (0, 0), two.stderr
    assert all(torch.equal(two.weights[name], tensor) for name, tensor in alone().weights.items())


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="two GPUs are needed")
@pytest.mark.parametrize("strategy", each(*STRATEGIES))
def test_two_gpus_train_what_one_does(strategy, alone, tmp_path) -> None:
    """Without dropout: a GPU draws otherwise for another shape. Kernels round otherwise, too."""
    one = alone(accelerator="gpu", dropout=0.0)
    two = train(tmp_path, world_size=2, strategy=strategy, accumulate=1, accelerator="gpu", dropout=0.0)
    assert_same(one, two, loss=1e-4, weights=2e-2)


@pytest.mark.parametrize("strategy", each("fsdp2", "deepspeed_2"))
def test_accumulation_on_two_processes_divides_the_loss_once(strategy, alone, tmp_path) -> None:
    assert_same(alone(accumulate=4), train(tmp_path, world_size=2, strategy=strategy, accumulate=2))


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_a_process_without_any_picture_keeps_nobody_waiting(strategy, alone, tmp_path) -> None:
    one = alone(text_only=True, steps=4)
    assert_same(one, train(tmp_path, world_size=2, strategy=strategy, accumulate=1, text_only=True, steps=4))


@pytest.mark.parametrize("strategy", each("deepspeed_2", "deepspeed_3"))
def test_deepspeed_refuses_a_pass_without_any_picture(strategy, tmp_path) -> None:
    """It would add the gradients of different weights, and say nothing."""
    two = train(tmp_path, world_size=2, strategy=strategy, accumulate=1, text_only=True, steps=4)
    assert any("show no picture" in text for text in two.stderr)


@pytest.mark.parametrize("strategy", each("fsdp2", "deepspeed_2", "deepspeed_3"))
def test_frozen_bfloat16_under_autocast_is_computed_as_by_one_process(strategy, alone, tmp_path) -> None:
    """Rounding to 8 bits gives differences of a few thousandths of the loss."""
    options = {"dtype": "bfloat16", "precision": "bf16-mixed"}
    two = train(tmp_path, world_size=2, strategy=strategy, accumulate=1, **options)
    assert {tensor.dtype for tensor in two.weights.values()} == {torch.float32}, two.stderr
    assert_same(alone(**options), two, loss=5e-3, weights=2e-2)


@pytest.mark.parametrize("strategy", each("fsdp2", "deepspeed_3"))
def test_blocks_computed_again_change_nothing(strategy, alone, tmp_path) -> None:
    two = train(tmp_path, world_size=2, strategy=strategy, accumulate=1, checkpointing="full")
    assert_same(alone(), two)


@pytest.mark.parametrize("strategy", each("deepspeed_2_offload", "deepspeed_3_offload"))
def test_an_optimiser_in_the_machines_memory_moves_as_the_other(strategy, alone, tmp_path) -> None:
    two = train(tmp_path, world_size=2, strategy=strategy, accumulate=1, optimiser="adamw_offloaded")
    assert_same(alone(), two)


@pytest.mark.parametrize("strategy", each("fsdp2", "deepspeed_2", "deepspeed_3"))
def test_one_process_may_use_any_strategy(strategy, alone, tmp_path) -> None:
    assert_same(alone(), train(tmp_path, world_size=1, strategy=strategy))


@pytest.mark.parametrize("strategy", each("fsdp2", "deepspeed_2", "deepspeed_3"))
def test_two_processes_go_on_from_their_checkpoint(strategy, tmp_path) -> None:
    whole = train(tmp_path / "whole", world_size=2, strategy=strategy, accumulate=1, steps=4, checkpoint_every=2)
    assert whole.statuses == (0, 0), whole.stderr
    copy = shutil.copytree(tmp_path / "whole" / "checkpoints", tmp_path / "again" / "checkpoints")
    for path in [path for path in copy.iterdir() if "4" in path.name]:  # as if it had ended after two steps
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    again = train(tmp_path / "again", world_size=2, strategy=strategy, accumulate=1, steps=4, checkpoint_every=2)
    assert again.statuses == (0, 0), again.stderr
    assert again.first_step == 2
    assert_same(whole, again, loss=1e-12, weights=0.0)


def test_a_loss_that_is_not_finite_on_one_process_ends_both(tmp_path) -> None:
    two = train(tmp_path, world_size=2, strategy="ddp", accumulate=1, nan_at=1)
    assert all(two.statuses)
    assert "DivergedError" in two.stderr[1]
