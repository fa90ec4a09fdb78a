"""Pictures that change at every visit and features that are used again exclude each other, and it is said so."""

import dataclasses

import pytest

from velm_train.cli.compose import load_config
from velm_train.config import Config
from velm_train.core.errors import ConfigError


def test_everything_is_off_as_shipped(shipped: Config) -> None:
    assert shipped.trainer.feature_cache == "auto"
    assert not shipped.trainer.augmentation.active


@pytest.mark.parametrize("word", ["flips=true", "quarter_turns=true", "brightness=0.1", "contrast=0.1"])
def test_stored_features_are_refused_with_augmentation(word: str) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.feature_cache=on is not possible; allowed: auto or off with"):
        load_config([f"trainer.augmentation.{word}", "trainer.feature_cache=on"])
    for cache in ("auto", "off"):
        assert load_config(
            [f"trainer.augmentation.{word}", f"trainer.feature_cache={cache}"]
        ).trainer.augmentation.active


def test_vision_lora_is_refused_whatever_is_stored() -> None:
    for cache in ("auto", "on", "off"):
        with pytest.raises(ConfigError, match=r"lora\.vision=True is not possible.* out of date after one step"):
            load_config(["lora.vision=true", f"trainer.feature_cache={cache}"])


@pytest.mark.parametrize("trainer", ["cpu", "gpu"])
def test_every_trainer_ships_the_same_choice(trainer: str, shipped: Config) -> None:
    other = load_config([f"trainer={trainer}"]).trainer
    for name in ("feature_cache", "hard_share"):
        assert getattr(other, name) == getattr(shipped.trainer, name)
    assert dataclasses.asdict(other.augmentation) == dataclasses.asdict(shipped.trainer.augmentation)
