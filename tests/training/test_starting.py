"""Where training begins: the newest, the first step, the best, or another checkpoint of the same settings."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from velm_train.core.errors import ArtifactError
from velm_train.training.checkpoint_files import Checkpoint, Origin, examine, partial_of, path_of, publish
from velm_train.training.starting import Keeping, choose_start, note_begun

ORIGIN = Origin(stage="s1", settings={"seed": 0, "lora.r": 16}, versions={"torch": "2.13"})
OTHER = Origin(stage="s2", settings={"seed": 0, "lora.r": 8, "trainer.packing": "on"}, versions={"torch": "2.12"})


def write(folder: Path, step: int, *, loss: float | None = None, origin: Origin = ORIGIN) -> Checkpoint:
    folder.mkdir(exist_ok=True)
    path = path_of(folder, step=step)
    torch.save({}, partial_of(path))
    publish(path, step=step, validation_loss=loss, origin=origin)
    found = examine(path)
    assert isinstance(found, Checkpoint)
    return found


def begin(folder: Path, **choices: object) -> int | None:
    start = choose_start(folder, Keeping(origin=ORIGIN, **choices), max_steps=100)
    return None if start is None else start.step


def test_an_empty_folder_begins_at_the_first_step(tmp_path: Path) -> None:
    assert begin(tmp_path / "none") is None
    assert begin(tmp_path, start="none") is None


def test_each_word_means_what_it_says(tmp_path: Path) -> None:
    for step, loss in ((10, 0.5), (20, 0.25), (30, 0.75)):
        write(tmp_path, step, loss=loss)
    assert begin(tmp_path) == 30
    assert begin(tmp_path, start="none") is None
    assert begin(tmp_path, start="best") == 20


def test_the_best_of_none_is_refused_with_the_remedy(tmp_path: Path) -> None:
    write(tmp_path, 10)
    with pytest.raises(
        ArtifactError, match=r"ckpt_path=best: .* no checkpoint with a validation loss; .*ckpt_path=auto"
    ):
        begin(tmp_path, start="best")


@pytest.mark.parametrize("start", ["none", "best"])
def test_a_run_that_has_begun_as_asked_goes_on_from_the_newest(tmp_path: Path, start: str) -> None:
    for step, loss in ((10, 0.25), (20, 0.5)):
        write(tmp_path, step, loss=loss)
    note_begun(tmp_path, run="out/a")
    assert begin(tmp_path, start=start, run="out/a") == 20
    assert begin(tmp_path, start=start, run="out/b") == (10 if start == "best" else None)
    assert begin(tmp_path, start=start) == (10 if start == "best" else None)


def test_a_checkpoint_of_the_same_stage_is_begun_from_and_then_gone_on_with(tmp_path: Path) -> None:
    first = write(tmp_path, 10)
    write(tmp_path, 20)
    assert begin(tmp_path, start=first, run="out/a") == 10
    note_begun(tmp_path, run="out/a")
    assert begin(tmp_path, start=first, run="out/a") == 20


def test_a_checkpoint_of_another_stage_gives_way_to_what_came_of_it(tmp_path: Path) -> None:
    start = write(tmp_path / "there", 10, origin=replace(ORIGIN, stage="s0"))
    assert begin(tmp_path / "here", start=start) == 10
    write(tmp_path / "here", 20)
    assert begin(tmp_path / "here", start=start) == 20


def test_a_checkpoint_of_other_settings_is_refused_and_they_are_listed(tmp_path: Path) -> None:
    start = write(tmp_path / "there", 10, origin=OTHER)
    with pytest.raises(ArtifactError) as caught:
        begin(tmp_path / "here", start=start)
    assert "step_000010.ckpt was made by other settings: " in str(caught.value)
    assert "lora.r: 8 there -> 16 here; trainer.packing: on there -> not set here. " in str(caught.value)
    assert "seed" not in str(caught.value)


def test_other_versions_are_said_and_not_refused(tmp_path: Path, caplog) -> None:
    write(tmp_path, 10, origin=replace(ORIGIN, versions={"torch": "2.12"}))
    with caplog.at_level(logging.WARNING):
        assert begin(tmp_path) == 10
    assert "other versions: torch 2.12 -> 2.13; rounding may differ" in caplog.text


def test_a_finished_training_whose_best_weights_are_wanted_is_ended_again_from_them(tmp_path: Path) -> None:
    write(tmp_path, 60, loss=0.25)
    write(tmp_path, 100, loss=0.5)
    assert begin(tmp_path) == 100
    assert begin(tmp_path, best=True, use_best=True) == 60
    write(tmp_path, 100, loss=0.125)
    assert begin(tmp_path, best=True, use_best=True) == 100
