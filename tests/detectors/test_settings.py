"""Impossible settings of PatchCore are named."""

import pytest

from velm_train.core.errors import ConfigError
from velm_train.detectors.settings import PatchCoreSettings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("layers", ()),
        ("input_hw", (0, 80)),
        ("coreset_fraction", 0.0),
        ("coreset_fraction", 1.5),
        ("max_patches", 0),
        ("smoothing_sigma", -1.0),
        ("score_top_fraction", 1.1),
        ("num_neighbours", 1),
    ],
)
def test_impossible_setting_is_named_with_its_value(name, value):
    with pytest.raises(ConfigError, match=rf"detector\.{name} is "):
        PatchCoreSettings(**{"layers": ("first",), "input_hw": (48, 80), name: value})
