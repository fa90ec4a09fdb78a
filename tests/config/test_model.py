"""The shipped models, what their blocks refuse, and which settings of a family go together."""

import dataclasses
import re
from pathlib import Path
from typing import get_args

import pytest

from velm_train.cli.compose import conf_dir, load_config
from velm_train.config.model import EMBEDDED, EMBEDDED_LEVELS, HUB_FAMILIES, EmbeddedConfig, HubConfig
from velm_train.core.errors import ConfigError
from velm_train.models.embedded.vision import LEVEL_LAYERS
from velm_train.models.families.build import FamilyName
from velm_train.models.families.hub import AttnImplementation

SHIPPED = sorted(path.stem for path in (conf_dir() / "model").glob("*.yaml"))
IMPOSSIBLE = {
    "path": ["''"],
    "revision": ["''"],
    "attn_implementation": ["flash_attention_2"],
    "min_pixels": [0, 2000000],
    "max_pixels": [0, 1],
    "max_views": [0],
    "train_projector": [],
}


def test_families_are_those_that_have_a_tap() -> None:
    assert get_args(FamilyName) == HUB_FAMILIES
    assert tuple(int(layer.removeprefix("block")) for layer in LEVEL_LAYERS) == EMBEDDED_LEVELS
    assert get_args(AttnImplementation) == ("sdpa", "eager")


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_model_is_taken_with_its_block_alone(name: str) -> None:
    model = load_config([f"model={name}"]).model
    assert (model.embedded is None, model.hub is None) == (name != EMBEDDED, name == EMBEDDED)
    if model.hub is not None:
        assert (model.hub.path is None) == name.startswith("tiny_")


@pytest.mark.parametrize("name", SHIPPED)
def test_every_model_goes_with_the_small_run(name: str) -> None:
    model = load_config([f"model={name}", "debug=fast"]).model
    if model.embedded is not None:
        assert model.embedded == EmbeddedConfig(cnn_px=96, vit_px=84, first_look_grid=3)
    else:
        assert model == load_config([f"model={name}"]).model


def test_every_key_of_the_block_is_tried() -> None:
    assert {field.name for field in dataclasses.fields(HubConfig)} == set(IMPOSSIBLE)


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in IMPOSSIBLE.items() for value in values])
def test_impossible_value_is_refused_by_its_key(key: str, value: object) -> None:
    shown = r"model\.hub\.min_pixels" if (key, value) == ("max_pixels", 1) else rf"model\.hub\.{key}"
    with pytest.raises(ConfigError, match=rf"{shown}=.* is not possible; allowed: \S"):
        load_config(["model=qwen2_5_vl_3b", f"model.hub.{key}={value}"])


def test_tiny_model_has_no_revision() -> None:
    with pytest.raises(ConfigError, match=r"model\.hub\.revision='main' is not possible"):
        load_config(["model=tiny_internvl", "model.hub.revision=main"])


def test_folder_takes_the_place_of_a_hub_id() -> None:
    hub = load_config(["model=smolvlm_256m", "model.hub.path=/data/smolvlm"]).model.hub
    assert hub is not None
    assert hub.path is not None
    assert Path(hub.path) == Path("/data/smolvlm")


def test_family_without_its_block_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match=re.escape("such as model=embedded or model=qwen2_5_vl_3b")):
        load_config(["model.family=smolvlm"])


@pytest.mark.parametrize("words", [["look_twice.levels=[6,12]"], ["model=tiny_internvl", "look_twice.levels=[1,2]"]])
def test_levels_are_numbers_of_blocks(words: list[str]) -> None:
    assert load_config([]).look_twice.levels is None
    assert load_config(words).look_twice.levels == [int(number) for number in re.findall(r"\d+", words[-1])]


def test_levels_that_the_embedded_model_has_not_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"look_twice\.levels=\[4\] is not possible; allowed: some of 3, 6, 9, 12"):
        load_config(["look_twice.levels=[4]"])
