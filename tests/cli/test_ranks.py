"""Settings and environment become this process's place in the run, or a refusal that says what fits."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from velm_train.cli.compose import composed_run_folder, load_config
from velm_train.cli.ranks import (
    folder_of_rank,
    folder_word,
    meeting_of,
    num_processes,
    rank_of_process,
    start_name,
    words_of_rank,
)
from velm_train.core.errors import ConfigError
from velm_train.core.ranks import ONLY_RANK, Rank

NO_GPU = not torch.cuda.is_available()
SIM = ("trainer=ddp_sim",)
GIVEN = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "there", "MASTER_PORT": "777"}
STEP = {
    "SLURM_JOB_ID": "12",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "node[07-08,11]",
}


def test_one_device_is_one_process_wherever_it_runs() -> None:
    inside_a_batch_script = {"SLURM_JOB_ID": "12", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}
    for environment in ({}, {"SLURM_STEP_NUM_TASKS": "1"}, inside_a_batch_script):
        assert rank_of_process(load_config([]), environment) == ONLY_RANK


def test_the_command_starts_the_processes_where_nobody_else_has() -> None:
    inside_a_batch_script = {"SLURM_JOB_ID": "12", "SLURM_NTASKS": "2", "SLURM_PROCID": "0"}
    for environment in ({}, {"SLURM_STEP_NUM_TASKS": "1"}, inside_a_batch_script):
        assert rank_of_process(load_config(SIM), environment) is None
    assert num_processes(load_config(SIM)) == 2


def test_processes_that_torchrun_started_take_their_place() -> None:
    rank = Rank(number=1, world_size=2, local_number=1, num_local=2, address="there", port=777)
    assert rank_of_process(load_config(SIM), GIVEN) == rank
    assert rank_of_process(load_config(SIM), GIVEN | STEP) == rank, "what is given comes before what SLURM says"


def test_processes_that_srun_started_take_their_place() -> None:
    rank = rank_of_process(load_config(SIM), STEP)
    assert rank == Rank(number=1, world_size=2, local_number=1, num_local=2, address="node07", port=20120)


@pytest.mark.parametrize("words", [("task=detect",), ("task=preview", "task.num_preview=1")])
def test_other_tasks_are_done_by_one_process(words) -> None:
    assert rank_of_process(load_config([*SIM, *words]), {}) == ONLY_RANK


@pytest.mark.parametrize(
    ("words", "environment", "expected"),
    [
        (SIM, {**GIVEN, "WORLD_SIZE": "3"}, "torchrun has started 3 processes, but"),
        (SIM, {**STEP, "SLURM_STEP_NUM_TASKS": "4"}, "srun has started 4 processes, but"),
        ((), GIVEN, "trainer.strategy=single is done by one process"),
        (("task=detect", *SIM), STEP, "task=detect with trainer.strategy=ddp is done by one process"),
        ((*SIM, "trainer.num_nodes=2"), {}, "srun --nodes=2 --ntasks-per-node=2"),
        ((*SIM, "trainer.num_nodes=2"), {}, "--multirun hydra/launcher=slurm_multi_node"),
        pytest.param(
            ("trainer=ddp", "trainer.devices=64"),
            {},
            "trainer.accelerator=gpu is not possible: torch finds no GPU here" if NO_GPU else "this machine has",
            id="64 GPUs",
        ),
    ],
)
def test_processes_that_do_not_fit_the_settings_are_refused(words, environment, expected) -> None:
    with pytest.raises(ConfigError, match=expected):
        rank_of_process(load_config(words), environment)


def test_more_gpus_than_there_are_are_refused(monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert num_processes(load_config(["trainer=ddp"])) == 3
    assert num_processes(load_config(["trainer=ddp", "trainer.devices=2"])) == 2
    with pytest.raises(ConfigError, match=r"trainer.devices=4 is not possible: this machine has 3 GPUs; set"):
        num_processes(load_config(["trainer=ddp", "trainer.devices=4"]))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"VELM_TRAIN_START": "abc", **STEP}, "abc"),
        (STEP, "slurm-12-0-0"),
        (STEP | {"SLURM_RESTART_COUNT": "2"}, "slurm-12-0-2"),
        ({"TORCHELASTIC_RUN_ID": "mine", "TORCHELASTIC_RESTART_COUNT": "1"}, "torchrun-mine-1"),
    ],
)
def test_every_start_has_a_name_of_its_own(environment: Mapping[str, str], expected: str) -> None:
    assert start_name(environment) == expected


def test_torchrun_without_a_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="--standalone"):
        start_name({"TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_RESTART_COUNT": "0"})


def test_processes_share_a_run_folder(monkeypatch, tmp_path) -> None:
    """Hydra would name it by the second in which each process starts."""
    for name, value in STEP.items():
        monkeypatch.setenv(name, value)
    words = [*SIM, f"paths.outputs={tmp_path}"]
    config = load_config(words)
    ranks = [Rank(number=number, world_size=2) for number in (0, 1)]
    folders = [words_of_rank(config, words, composed_folder="a time", rank=rank) for rank in ranks]
    run = tmp_path / "textures" / "slurm-12-0"
    assert folders == [[folder_word(run)], [folder_word(run / ".ranks" / "1")]]


def test_a_run_folder_that_was_chosen_is_kept(tmp_path) -> None:
    words = [*SIM, f"hydra.run.dir={tmp_path}"]
    config, composed = load_config(words), composed_run_folder(words)
    assert composed == str(tmp_path)
    first, second = (Rank(number=number, world_size=2) for number in (0, 1))
    assert words_of_rank(config, words, composed_folder=composed, rank=first) == []
    assert words_of_rank(config, words, composed_folder=composed, rank=second) == [
        folder_word(tmp_path / ".ranks" / "1")
    ]


@pytest.mark.parametrize("name", ["plain", "with space", "a=b,c", "it's", "[1]"])
def test_any_folder_survives_hydra(name, tmp_path) -> None:
    assert composed_run_folder([folder_word(tmp_path / name)]) == str(tmp_path / name)


def test_processes_meet_in_one_folder(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("VELM_TRAIN_START", "abc")
    first, second = (Rank(number=number, world_size=2) for number in (0, 1))
    meetings = [meeting_of(folder_of_rank(tmp_path, rank), rank) for rank in (first, second)]
    assert meetings[0].agree("word", lambda: "yes") == "yes"
    assert meetings[1].agree("word", pytest.fail) == "yes"
    assert [path.parent for path in tmp_path.rglob("*-word")] == [Path(tmp_path / ".ranks" / "abc")]
