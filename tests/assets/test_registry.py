"""Pins are complete, consistent, and let no unverified byte through."""

import re

import pytest

from velm_train.assets.recipes import RECIPES
from velm_train.assets.registry import ASSET_NAMES, MATERIAL_NAMES, PINS, MemberPin, WheelPin
from velm_train.core.errors import ConfigError

WHEELS = [wheel for pin in PINS.values() for wheel in pin.wheels]


def test_every_asset_has_a_pin_and_a_recipe():
    assert tuple(PINS) == ASSET_NAMES == tuple(RECIPES)
    assert all(name == pin.name for name, pin in PINS.items())


@pytest.mark.parametrize("wheel", WHEELS, ids=lambda wheel: wheel.package)
def test_every_wheel_or_each_of_its_members_has_a_hash(wheel):
    hashes = [wheel.sha256] if wheel.sha256 is not None else [member.sha256 for member in wheel.members]
    assert hashes
    assert all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in hashes)
    assert re.fullmatch(r"\d+\.\d+\.\d+", wheel.version)


def test_pin_without_any_hash_is_refused():
    with pytest.raises(ConfigError, match="pin the wheel's sha256"):
        WheelPin(package="p", version="1", sha256=None, num_bytes=1, licence="MIT", members=(MemberPin(path="a"),))


def test_there_are_enough_distinct_materials():
    assert len(set(MATERIAL_NAMES)) == len(MATERIAL_NAMES) >= 12
    members = [member.path for wheel in PINS["material_photos"].wheels for member in wheel.members]
    assert len(set(members)) == len(MATERIAL_NAMES)


def test_licence_and_source_name_every_wheel():
    pin = PINS["material_photos"]
    assert pin.licence == "MIT and CC0-1.0"
    assert pin.source == "metaworld==3.1.1, scikit-image==0.26.0"
