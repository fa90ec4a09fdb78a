"""Stored or not, features give the same losses; pictures that change at every visit train to the end."""

import csv
import shutil
from collections.abc import Callable

import pytest

TRAIN = ("task=train", "logger=none", "trainer.max_steps=2")


@pytest.fixture
def trained(road, run_on, tmp_path) -> Callable[..., tuple[list[str], str]]:
    """Returns a function that trains anew from the first run's detections and gives the losses and what was shown."""
    own = tmp_path / "own"
    stages = ("textures", "detectors", "detections", "audit", "gates", "instructions", "features", "alignment")
    for stage in stages:
        shutil.copytree(road.artifacts / stage, own / stage)

    def train(*words: str) -> tuple[list[str], str]:
        shutil.rmtree(own / "adapters", ignore_errors=True)
        run = run_on(own, *TRAIN, *words)
        (history,) = own.glob("adapters/*/history.csv")
        with history.open(newline="") as stream:
            return [row["loss/total"] for row in csv.DictReader(stream)], run.shown

    return train


def test_losses_with_and_without_stored_features_are_equal(trained) -> None:
    stored, told = trained("trainer.feature_cache=on")
    assert told.count("reused features/") == 5
    live, told = trained("trainer.feature_cache=off")
    assert "features/" not in told
    assert "the frozen vision tower runs whenever training shows a view: trainer.feature_cache=off" in told
    assert [float(loss) for loss in live] == pytest.approx([float(loss) for loss in stored], rel=1e-5)


def test_disk_without_room_for_features_does_not_stop_a_run(trained, monkeypatch) -> None:
    plain = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: plain(path)._replace(free=10**6))
    found, told = trained("regions.contour_width_px=3")
    assert "features are not stored, and views encoded anew whenever they are shown: disk nearly full" in told
    assert len(found) == 2


def test_augmented_training_replays_hard_samples_to_the_end(trained) -> None:
    words = ("flips=true", "quarter_turns=true", "brightness=0.1", "contrast=0.1")
    settings = [f"trainer.augmentation.{word}" for word in words]
    found, told = trained(*settings, "trainer.balance=hard", "trainer.batch_size=8", "trainer.max_steps=6")
    assert "trainer.augmentation shows it another way each time" in told
    assert len(found) == 6
    again, _ = trained(*settings, "trainer.balance=hard", "trainer.batch_size=8", "trainer.max_steps=6")
    assert again == found
