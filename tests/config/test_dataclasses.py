"""Dataclasses of the configuration hold no defaults, and say what each of their values is."""

import dataclasses
import importlib
import pkgutil

import pytest

from velm_train import config

MODULES = [
    importlib.import_module(f"{config.__name__}.{found.name}") for found in pkgutil.iter_modules(config.__path__)
]
GROUPS = [
    kind
    for module in MODULES
    for kind in vars(module).values()
    if dataclasses.is_dataclass(kind) and kind.__module__ == module.__name__
]


@pytest.mark.parametrize("kind", GROUPS)
def test_there_are_no_defaults(kind: type) -> None:
    for field in dataclasses.fields(kind):
        assert field.default is dataclasses.MISSING, field.name
        assert field.default_factory is dataclasses.MISSING, field.name


@pytest.mark.parametrize("kind", GROUPS)
def test_docstring_states_every_plain_field(kind: type) -> None:
    groups = {group.__name__ for group in GROUPS}
    plain = [field.name for field in dataclasses.fields(kind) if getattr(field.type, "__name__", "") not in groups]
    assert [
        name for name in plain if f"        {name}: " not in (kind.__doc__ or "").replace("\n    ", "\n        ")
    ] == []
