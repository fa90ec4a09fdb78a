"""Plain JSON values go in, nested dataclasses come out by their annotations; `dataclasses.asdict` is the way back."""

import dataclasses
import types
import typing
from collections.abc import Callable
from typing import TypeVar

from velm_train.core.errors import DataError

Record = TypeVar("Record")


def read_record(kind: type[Record], value: object) -> Record:
    """Reads a dataclass whose fields are JSON values, dataclasses, or tuples, dicts and optionals of these.

    Raises:
        DataError: if the fields of the value do not match exactly, at any depth.
    """
    expected = typing.get_type_hints(kind)
    if not isinstance(value, dict) or set(value) != set(expected):
        found = set(value) if isinstance(value, dict) else set()
        missing, unknown = sorted(set(expected) - found), sorted(found - set(expected))
        raise DataError(f"{kind.__name__}: missing fields {missing}, unknown fields {unknown}")
    build: Callable[..., Record] = kind
    return build(**{name: _convert(annotation, value[name]) for name, annotation in expected.items()})


def _convert(annotation: object, value: object) -> object:
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return read_record(annotation, value)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_convert(arguments[0], entry) for entry in value)
    if origin is dict and isinstance(value, dict):
        return {key: _convert(arguments[1], entry) for key, entry in value.items()}
    if origin is types.UnionType:
        inner = next(argument for argument in arguments if argument is not types.NoneType)
        return None if value is None else _convert(inner, value)
    return float(value) if annotation is float and isinstance(value, int) else value
