"""Blocks that are null by default refuse impossible values by key, and stand alone."""

import dataclasses
import re

import pytest

from velm_train.cli.compose import load_config
from velm_train.config import detectors
from velm_train.core.errors import ConfigError

IMPOSSIBLE = {
    "subspace_ad": {"explained_variance": [0.0, 1.0], "max_components": [0]},
    "padim": {"num_channels": [0], "regularisation": [0.0, 1.1]},
    "anomaly_dino": {"foreground": ["some"], "num_rotations": [0, 9]},
    "musc": {
        "mode": ["frozen"],
        "neighbourhoods": ["[]", "[2]"],
        "lowest_fraction": [0.0, 1.1],
        "rescore_neighbours": ["[0]"],
    },
    "anomalib": {"model": ["''"], "max_epochs": [0]},
    "maps": {"folder": ["''"]},
}
FREE = {"anomalib": {"arguments"}, "maps": {"scores"}}
"""Keys that are checked where they are read."""


def block(name: str) -> type:
    (kind,) = [field.type.__args__[0] for field in dataclasses.fields(detectors.DetectorConfig) if field.name == name]
    return kind


@pytest.mark.parametrize("name", detectors.DETECTORS)
def test_every_detector_composes_with_its_block_alone(name: str) -> None:
    config = load_config([f"detector={name}"]).detector
    assert config.name == name
    assert [other for other in detectors.DETECTORS if getattr(config, other) is not None] == [name]


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_every_key_of_a_block_is_tried(name: str) -> None:
    names = {field.name for field in dataclasses.fields(block(name))}
    assert names == set(IMPOSSIBLE[name]) | FREE.get(name, set())


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [(name, key, value) for name, keys in IMPOSSIBLE.items() for key, values in keys.items() for value in values],
)
def test_impossible_value_is_refused_by_its_key(name: str, key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"detector\.{name}\.{key}=.* is not possible; allowed: \S"):
        load_config([f"detector={name}", f"detector.{name}.{key}={value}"])


def test_name_without_its_block_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match=re.escape("choose it with detector=padim")):
        load_config(["detector.name=padim"])


def test_one_fold_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"detector\.num_folds=1 is not possible; allowed: 0, or 2 or more"):
        load_config(["detector.num_folds=1"])


@pytest.mark.parametrize(
    ("key", "value"), [("image", "''"), ("defect_type", "''"), ("single_category", "''"), ("normal_labels", "[]")]
)
def test_impossible_column_is_refused_by_its_key(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"dataset\.huggingface\.{key}=.* is not possible; allowed: \S"):
        load_config(["dataset=huggingface", "dataset.root=/data", f"dataset.huggingface.{key}={value}"])


def test_columns_belong_to_hugging_face_data_sets_alone() -> None:
    columns = load_config(["dataset=huggingface", "dataset.root=user/parts"]).dataset.huggingface
    assert columns is not None
    assert (columns.image, columns.normal_labels) == ("image", ["good"])
    with pytest.raises(ConfigError, match=r"allowed: set for dataset\.reader=huggingface, null otherwise"):
        load_config(["dataset=huggingface", "dataset.root=/data", "dataset.reader=table"])
