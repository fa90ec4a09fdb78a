"""A folder of checkpoints is never misread: only what is complete counts, whatever else lies there."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from velm_train.training.checkpoint_files import (
    Checkpoint,
    Origin,
    best_of,
    complete_ones,
    discard_later_than,
    examine,
    keep_only,
    marker_of,
    partial_of,
    path_of,
    publish,
    tidy,
)

ORIGIN = Origin(stage="abc", settings={"lora.r": 4, "seed": 0}, versions={"torch": "2"})


def write(folder: Path, step: int, *, loss: float | None = None, sharded: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    path = path_of(folder, step=step)
    partial = partial_of(path)
    if sharded:
        (partial / "checkpoint").mkdir(parents=True)
        (partial / "latest").write_text("checkpoint")
        for rank in range(2):
            torch.save({"shard": torch.arange(4) + rank}, partial / "checkpoint" / f"rank_{rank}.pt")
    else:
        torch.save({"weights": torch.full((5,), float(step))}, partial)
    publish(path, step=step, validation_loss=loss, origin=ORIGIN)
    return path


def steps(folder: Path) -> list[int]:
    return [one.step for one in complete_ones(folder)]


@pytest.mark.parametrize("sharded", [False, True])
def test_what_is_published_is_complete_and_tells_what_made_it(tmp_path: Path, sharded: bool) -> None:
    path = write(tmp_path, 40, loss=0.25, sharded=sharded)
    assert path.name == "step_000040.ckpt"
    found = examine(path)
    assert isinstance(found, Checkpoint)
    assert (found.path, found.step, found.validation_loss, found.origin) == (path, 40, 0.25, ORIGIN)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["step_000040.ckpt", "step_000040.ckpt.json"]


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    digests = []
    for name, step in (("a", 1), ("b", 1), ("c", 2)):
        found = examine(write(tmp_path / name, step))
        assert isinstance(found, Checkpoint)
        digests.append(found.digest)
    assert digests[0] == digests[1] != digests[2]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "truncated": (truncate, "is not as it was written"),
    "a bit flipped": (flip, "is not as it was written"),
    "empty": (lambda path: path.write_bytes(b""), "is not as it was written"),
    "gone": (lambda path: path.unlink(), "step_000020.ckpt is missing"),
    "without marker": (lambda path: marker_of(path).unlink(), "step_000020.ckpt.json is missing"),
    "marker cut": (lambda path: truncate(marker_of(path)), "marker cannot be read"),
    "marker empty": (lambda path: marker_of(path).write_text(""), "marker cannot be read"),
    "marker no object": (lambda path: marker_of(path).write_text("[]"), "marker cannot be read"),
    "marker of another step": (
        lambda path: shutil.copy(marker_of(path_of(path.parent, step=10)), marker_of(path)),
        "its marker is of step 10",
    ),
    "marker of a later version": (
        lambda path: marker_of(path).write_text(json.dumps({"version": 9})),
        "its marker is of version 9",
    ),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_for_the_older_one_and_it_is_said(
    tmp_path: Path, what: str, caplog
) -> None:
    damage, reason = DAMAGES[what]
    write(tmp_path, 10)
    path = write(tmp_path, 20)
    damage(path)
    assert steps(tmp_path) == [10]
    found = examine(path)
    assert isinstance(found, str)
    assert reason in found
    if what != "gone":
        assert "step_000020.ckpt is passed over" in caplog.text


def remove_a_shard(path: Path) -> None:
    (path / "checkpoint" / "rank_1.pt").unlink()


def add_a_file(path: Path) -> None:
    (path / "checkpoint" / "rank_2.pt").write_bytes(b"of another save")


def cut_a_shard(path: Path) -> None:
    truncate(path / "checkpoint" / "rank_0.pt")


@pytest.mark.parametrize("damage", [remove_a_shard, add_a_file, cut_a_shard])
def test_a_folder_that_is_not_as_it_was_written_is_passed_over(tmp_path: Path, damage) -> None:
    write(tmp_path, 10, sharded=True)
    damage(write(tmp_path, 20, sharded=True))
    assert steps(tmp_path) == [10]


def test_names_that_only_look_like_checkpoints_are_no_checkpoints(tmp_path: Path) -> None:
    write(tmp_path, 10)
    for name in ("step_000050 (copy).ckpt", "last.ckpt", "step_000060.ckpt.bak", "step_70.ckpt", "xstep_000080.ckpt"):
        shutil.copy(path_of(tmp_path, step=10), tmp_path / name)
        shutil.copy(marker_of(path_of(tmp_path, step=10)), tmp_path / f"{name}.json")
    assert steps(tmp_path) == [10]


def test_steps_are_numbers_not_words(tmp_path: Path) -> None:
    for step in (999_999, 1_000_000, 2):
        write(tmp_path, step)
    assert steps(tmp_path) == [1_000_000, 999_999, 2]


def test_no_folder_holds_no_checkpoint(tmp_path: Path) -> None:
    assert complete_ones(tmp_path / "none") == []


def test_the_best_is_the_lowest_loss_and_the_older_of_equal_ones(tmp_path: Path) -> None:
    for step, loss in ((1, 0.5), (2, 0.25), (3, 0.25), (4, None), (5, 0.75)):
        write(tmp_path, step, loss=loss)
    best = best_of(complete_ones(tmp_path))
    assert best is not None
    assert best.step == 2
    flip(best.path)
    second = best_of(complete_ones(tmp_path))
    assert second is not None
    assert second.step == 3
    assert best_of([]) is None


def test_the_newest_few_and_the_best_stay(tmp_path: Path) -> None:
    for step, loss in ((1, 0.5), (2, 0.25), (3, 0.5), (4, 0.5), (5, 0.5)):
        write(tmp_path, step, loss=loss)
    keep_only(tmp_path, last=2, best=True)
    assert steps(tmp_path) == [5, 4, 2]
    keep_only(tmp_path, last=1, best=False)
    assert steps(tmp_path) == [5]
    assert len(list(tmp_path.iterdir())) == 2


def test_one_without_marker_does_not_count_among_the_newest_few(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        write(tmp_path, step)
    marker_of(path_of(tmp_path, step=3)).unlink()
    keep_only(tmp_path, last=1, best=False)
    assert steps(tmp_path) == [2]


@pytest.mark.parametrize("sharded", [False, True])
def test_a_step_that_is_saved_again_replaces_what_was_there(tmp_path: Path, sharded: bool) -> None:
    write(tmp_path, 10)
    write(tmp_path, 10, loss=0.5, sharded=sharded)
    (found,) = complete_ones(tmp_path)
    assert found.validation_loss == 0.5
    assert found.path.is_dir() == sharded


def test_what_lies_ahead_and_what_is_half_written_is_removed(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        write(tmp_path, step, sharded=step == 30)
    (tmp_path / ".step_000040.ckpt.partial").write_bytes(b"half")
    (tmp_path / ".step_000050.ckpt.partial").mkdir()
    discard_later_than(tmp_path, step=10)
    tidy(tmp_path)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["step_000010.ckpt", "step_000010.ckpt.json"]
