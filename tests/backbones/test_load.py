"""Backbones are found by name and told apart by identity."""

import pytest

from velm_train.backbones.load import BACKBONE_NAMES, load_backbone
from velm_train.core.errors import ConfigError


def test_unknown_name_gives_the_nearest(assets):
    with pytest.raises(ConfigError, match="did you mean 'dinov2_small'"):
        load_backbone("dinov2_smal", assets=assets)


def test_identities_are_stable_and_distinct(assets):
    identities = [load_backbone(name, assets=assets).identity for name in BACKBONE_NAMES]
    assert len(set(identities)) == len(BACKBONE_NAMES)
    assert load_backbone(BACKBONE_NAMES[0], assets=assets).identity == identities[0]
