"""What `ckpt_path` means on the command line, and what a checkpoint of other settings is told."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from velm_train.cli.build_model import training_settings
from velm_train.cli.checkpoints import (
    clear_checkpoints,
    find_start,
    keeping_of,
    key_from_start,
    note_stage,
    origin_of,
    run_of,
)
from velm_train.cli.compose import load_config
from velm_train.cli.workshop import Workshop, open_workshop
from velm_train.core.artifacts import StageKey
from velm_train.core.errors import ArtifactError
from velm_train.training.checkpoint_files import Checkpoint, Origin, examine, partial_of, path_of, publish

VALIDATED = ("trainer.validation_share=0.2", "callbacks.keep_best=true")


def key_of(*words: str) -> StageKey:
    config = load_config(words)
    settings = {"training": training_settings(config), "lora": {"r": config.lora.r}}
    return StageKey(stage="adapters", version=2, inputs={"material": "m", "model": "w"}, settings=settings)


def write(folder: Path, step: int, *, origin: Origin) -> Checkpoint:
    folder.mkdir(parents=True, exist_ok=True)
    path = path_of(folder, step=step)
    torch.save({"step": step}, partial_of(path))
    publish(path, step=step, validation_loss=None, origin=origin)
    found = examine(path)
    assert isinstance(found, Checkpoint)
    return found


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    config = load_config([f"paths.artifacts={tmp_path / 'art'}", *VALIDATED])
    folder = tmp_path / "out" / "run"
    folder.mkdir(parents=True)
    return open_workshop(config, run_folder=folder)


@pytest.mark.parametrize("word", ["auto", "none"])
def test_words_are_passed_on(word: str) -> None:
    assert find_start(load_config([f"ckpt_path={word}"])) == word
    assert find_start(load_config(["ckpt_path=best", *VALIDATED])) == "best"


def test_a_path_is_a_checkpoint_a_folder_of_them_or_a_run(shop: Workshop, tmp_path: Path) -> None:
    key = key_of()
    stage = shop.store.root / "adapters" / f".partial-{key.key}"
    written = [write(stage / "checkpoints", step, origin=origin_of(key, stage=key.key)) for step in (10, 20)]
    note_stage(shop, key)
    assert shop.run_folder is not None
    for place, expected in (
        (written[0].path, 10),
        (stage / "checkpoints", 20),
        (stage, 20),
        (shop.run_folder, 20),
    ):
        start = find_start(load_config([f"ckpt_path={place}", f"paths.artifacts={tmp_path / 'art'}"]))
        assert isinstance(start, Checkpoint)
        assert start.step == expected
    stage.rename(stage.with_name(key.key))  # the run is finished, and keeps them
    start = find_start(load_config([f"ckpt_path={shop.run_folder}", f"paths.artifacts={tmp_path / 'elsewhere'}"]))
    assert isinstance(start, Checkpoint)
    assert start.step == 20


def test_a_path_without_a_complete_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"ckpt_path=.*nowhere is not there; allowed: auto, none, best"):
        find_start(load_config([f"ckpt_path={tmp_path / 'nowhere'}"]))
    with pytest.raises(ArtifactError, match=r"holds no complete checkpoint; .*callbacks\.keep_checkpoints=true"):
        find_start(load_config([f"ckpt_path={tmp_path}"]))
    damaged = write(tmp_path / "checkpoints", 10, origin=Origin()).path
    damaged.write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"is no complete checkpoint: step_000010\.ckpt.* is not as it was written"):
        find_start(load_config([f"ckpt_path={damaged}"]))
    alone = tmp_path / "lightning.ckpt"
    torch.save({}, alone)
    with pytest.raises(
        ArtifactError, match=r"lightning\.ckpt is no complete checkpoint: lightning\.ckpt\.json is missing"
    ):
        find_start(load_config([f"ckpt_path={alone}"]))


def test_settings_are_named_as_on_the_command_line() -> None:
    config = load_config([])
    told = origin_of(key_of(), stage="s").settings
    for name in told:
        group, _, field = name.partition(".")
        if group == "trainer" and "." not in field:
            assert hasattr(config.trainer, field), name
    assert told["trainer.max_steps"] == config.trainer.max_steps
    assert told["trainer.lora_learning_rate"] == config.trainer.lora_learning_rate
    assert told["trainer.optimiser"] == config.trainer.optimiser
    assert told["seed"] == 0
    assert told["training samples"] == "m"
    assert json.loads(json.dumps(told)) == told


def test_a_checkpoint_of_the_same_stage_changes_no_key(tmp_path: Path) -> None:
    key = key_of()
    start = write(tmp_path, 10, origin=origin_of(key, stage=key.key))
    for one in ("auto", "none", "best", start):
        assert key_from_start(key, one) == key


def test_a_checkpoint_of_another_stage_with_the_same_settings_enters_the_key(tmp_path: Path) -> None:
    key = key_of()
    there = key_of(*VALIDATED, "callbacks.use_best=true")
    assert there.key != key.key
    first, second = (write(tmp_path, step, origin=origin_of(there, stage=there.key)) for step in (10, 20))
    keys = {key.key, key_from_start(key, first).key, key_from_start(key, second).key}
    assert len(keys) == 3
    own = write(tmp_path / "own", 30, origin=origin_of(key_from_start(key, first), stage="other"))
    assert key_from_start(key, own).key not in keys  # and what it began from is no difference


def test_a_checkpoint_of_other_settings_is_refused_with_the_differences(tmp_path: Path) -> None:
    there = key_of("trainer.max_steps=60", "trainer.lora_learning_rate=1e-3", "seed=4", "lora.r=4")
    start = write(tmp_path, 10, origin=origin_of(there, stage=there.key))
    with pytest.raises(ArtifactError) as caught:
        key_from_start(key_of(), start)
    differences = str(caught.value).partition("other settings: ")[2].partition(". Give these")[0]
    assert differences.split("; ") == [
        "lora.r: 4 there -> 16 here",
        "seed: 4 there -> 0 here",
        "trainer.lora_learning_rate: 0.001 there -> 0.0005 here",
        "trainer.max_steps: 60 there -> 30 here",
    ]
    other_data = replace(key_of(), inputs={"material": "n", "model": "w"})
    with pytest.raises(ArtifactError, match="training samples: m there -> n here"):
        key_from_start(other_data, write(tmp_path, 20, origin=origin_of(key_of(), stage="s")))


def test_what_only_says_what_is_kept_is_no_part_of_the_key() -> None:
    words = ("callbacks.keep_last=5", "callbacks.keep_checkpoints=true", "callbacks.validate_every=3", "ckpt_path=none")
    assert key_of(*words) == key_of()
    best = [key_of(*VALIDATED, "callbacks.use_best=true", f"callbacks.validate_every={every}").key for every in (3, 4)]
    assert len({key_of().key, *best}) == 3


def test_a_run_is_the_same_on_every_rank_and_another_elsewhere(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert run_of(run) == run_of(run / ".ranks" / "1") != run_of(tmp_path / "other")
    assert run_of(None) == ""
    assert str(tmp_path) not in run_of(run)


def test_alignment_has_no_best(shop: Workshop) -> None:
    keeping = keeping_of(shop, key_of(), start="auto", validated=False)
    assert (keeping.last, keeping.best, keeping.use_best) == (2, False, False)
    assert keeping_of(shop, key_of(), start="auto", validated=True).best


@pytest.mark.parametrize("keep", [False, True])
def test_the_finished_weights_take_the_place_of_checkpoints_unless_they_are_kept(tmp_path: Path, keep: bool) -> None:
    words = [f"callbacks.keep_checkpoints={str(keep).lower()}", f"paths.artifacts={tmp_path / 'art'}"]
    shop = open_workshop(load_config(words), run_folder=None)
    write(tmp_path / "stage" / "checkpoints", 10, origin=Origin())
    clear_checkpoints(shop, tmp_path / "stage")
    assert (tmp_path / "stage" / "checkpoints").exists() == keep
