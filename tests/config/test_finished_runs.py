"""Settings of the tasks that read finished runs: each impossible value is refused by its key."""

import dataclasses
import re

import pytest

from velm_train.config.compare import CompareConfig
from velm_train.config.export import ExportConfig
from velm_train.config.scoring import ScoreConfig
from velm_train.core.errors import ConfigError

IMPOSSIBLE = [
    ("compare.pairs", "some"),
    ("export.folder", ""),
    ("export.num_images", 0),
    ("export.dtype", "float16"),
    ("export.tolerance_nats", 0.0),
    ("export.onnx_tolerance", 1.0),
    ("score.format", "parquet"),
    ("score.truth", ""),
    ("score.taxonomy", ""),
    ("score.label_keys", ""),
    ("score.missing", "drop"),
    ("score.sentence_model", ""),
]
FREE = {"export.onnx"}
"""Flags."""


@pytest.mark.parametrize(("key", "value"), IMPOSSIBLE)
def test_impossible_value_is_refused_by_its_key(change, key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=re.escape(key)):
        change(key, value)


def test_every_key_is_tried() -> None:
    groups = {"compare": CompareConfig, "export": ExportConfig, "score": ScoreConfig}
    keys = {f"{name}.{field.name}" for name, kind in groups.items() for field in dataclasses.fields(kind)}
    assert keys == {key for key, _ in IMPOSSIBLE} | FREE
