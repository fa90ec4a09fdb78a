"""The shipped configuration as plain groups, made without Hydra's command line."""

import copy
from typing import Any

import pytest

from velm_train.cli.compose import load_config
from velm_train.config import Config


@pytest.fixture(scope="session")
def shipped() -> Config:
    return load_config([])


@pytest.fixture
def config(shipped: Config) -> Config:
    return copy.deepcopy(shipped)


@pytest.fixture
def change(config: Config) -> Any:
    """Returns a function that remakes the group of a dotted key with another value, checks included."""

    def remake(key: str, value: object) -> object:
        *groups, field = key.split(".")
        group: Any = config
        for name in groups:
            group = group[name] if isinstance(group, dict) else getattr(group, name)
        values = {name: getattr(group, name) for name in group.__slots__}
        assert field in values, key
        return type(group)(**{**values, field: value})

    return remake
