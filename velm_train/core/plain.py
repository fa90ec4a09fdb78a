"""Plain JSON values go in, nested dataclasses come out by their annotations; `dataclasses.asdict` is the way back."""

import dataclasses
import types
import typing
from collections.abc import Callable
from typing import TypeVar

from velm_train.core.errors import DataError

Record = TypeVar("Record")

_SCALARS: dict[object, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "text"),
}


def read_record(kind: type[Record], value: object) -> Record:
    """Reads a dataclass whose fields are JSON values, dataclasses, or tuples, dicts and optionals of these.

    Raises:
        DataError: naming the place whose fields or value are not as they have to be, at any depth.
    """
    return _record(kind, value, where=kind.__name__)


def _record(kind: type[Record], value: object, *, where: str) -> Record:
    expected = typing.get_type_hints(kind)
    if not isinstance(value, dict):
        raise _mismatch(where, value, f"an object with {', '.join(expected)}")
    if set(value) != set(expected):
        missing, unknown = sorted(set(expected) - set(value)), sorted(set(value) - set(expected))
        raise DataError(f"{where}: missing fields {missing}, unknown fields {unknown}")
    build: Callable[..., Record] = kind
    read = {name: _convert(annotation, value[name], where=f"{where}.{name}") for name, annotation in expected.items()}
    return build(**read)


def _convert(annotation: object, value: object, *, where: str) -> object:
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return _record(annotation, value, where=where)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is tuple:
        return _tuple(arguments, value, where=where)
    if origin is dict:
        if not isinstance(value, dict):
            raise _mismatch(where, value, "an object")
        return {key: _convert(arguments[1], entry, where=f"{where}.{key}") for key, entry in value.items()}
    if origin is types.UnionType:
        inner = next(argument for argument in arguments if argument is not types.NoneType)
        return None if value is None else _convert(inner, value, where=where)
    if origin is typing.Literal:
        if value not in arguments:
            raise _mismatch(where, value, f"one of {', '.join(map(str, arguments))}")
        return value
    allowed, meant = _SCALARS[annotation]
    if not isinstance(value, allowed) or (isinstance(value, bool) and annotation is not bool):
        raise _mismatch(where, value, meant)
    return float(value) if annotation is float and isinstance(value, int) else value


def _tuple(arguments: tuple[object, ...], value: object, *, where: str) -> tuple[object, ...]:
    if not isinstance(value, list | tuple):
        raise _mismatch(where, value, "a list")
    of_each = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
    if len(value) != len(of_each):
        raise _mismatch(where, value, f"a list of {len(of_each)}")
    pairs = zip(of_each, value, strict=True)
    return tuple(_convert(kind, entry, where=f"{where}[{i}]") for i, (kind, entry) in enumerate(pairs))


def _mismatch(where: str, value: object, needed: str) -> DataError:
    given = "nothing" if value is None else repr(value)
    return DataError(f"{where} is {given[:60]}; {needed} is needed")
