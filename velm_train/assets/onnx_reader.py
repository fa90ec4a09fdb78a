"""An ONNX file in, its weights as numpy arrays and its nodes by name out; no onnx library needed.

ONNX is one Protocol Buffers message. On the wire a message is a row of fields, each a key and a value. The key
is a varint, `field number * 8 + wire type`; the wire type says how long the value is:

    0  varint: 7 bits a byte, low bits first, the top bit set on every byte but the last
    1  8 bytes      2  a varint length, then that many bytes (text, bytes, a message, packed numbers)      5  4 bytes

Only the fields named below are read; all others are stepped over. Field numbers are those of onnx.proto.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from velm_train.core.errors import AssetError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OP_TYPE = 1, 2, 3, 4
_TENSOR_DIMS, _TENSOR_DATA_TYPE, _TENSOR_NAME, _TENSOR_RAW_DATA = 1, 2, 8, 9
_DTYPES = {1: "<f4", 6: "<i4", 7: "<i8", 10: "<f2", 11: "<f8"}
"""TensorProto.DataType -> numpy; raw data are little-endian."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One field of a message: a number for varints, bytes for everything else."""

    number: int
    value: int | memoryview


@dataclass(frozen=True, kw_only=True, slots=True)
class OnnxNode:
    """One operation, with the names of the values it reads and writes."""

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class OnnxGraph:
    """The weights by name, and the operations in the order of the file."""

    tensors: Mapping[str, np.ndarray]
    nodes: tuple[OnnxNode, ...]


def read_onnx(path: Path) -> OnnxGraph:
    """Reads an ONNX file whose weights lie inside it.

    Raises:
        AssetError: if the file is cut short, holds no graph, or stores a tensor in a way not read here.
    """
    graphs = _all_bytes(memoryview(path.read_bytes()), _MODEL_GRAPH)
    if len(graphs) != 1:
        raise AssetError(f"{path.name}: {len(graphs)} graphs, expected 1; this is no ONNX model")
    tensors: dict[str, np.ndarray] = {}
    nodes: list[OnnxNode] = []
    for field in read_fields(graphs[0]):
        if field.number == _GRAPH_INITIALIZER:
            message = _as_bytes(field)
            tensors[_text(message, _TENSOR_NAME)] = _read_tensor(message)
        elif field.number == _GRAPH_NODE:
            nodes.append(_read_node(_as_bytes(field)))
    return OnnxGraph(tensors=tensors, nodes=tuple(nodes))


def read_fields(message: memoryview) -> Iterator[Field]:
    """Yields the fields of one Protocol Buffers message in their order.

    Raises:
        AssetError: if the message is cut short or uses a wire type that does not exist.
    """
    position = 0
    while position < len(message):
        key, position = _read_varint(message, position)
        number, wire_type = key >> 3, key & 7
        if wire_type == _VARINT:
            value, position = _read_varint(message, position)
            yield Field(number=number, value=value)
            continue
        if wire_type == _BYTES:
            length, position = _read_varint(message, position)
        elif wire_type in (_FIXED32, _FIXED64):
            length = 4 if wire_type == _FIXED32 else 8
        else:
            raise AssetError(f"protobuf field {number} has wire type {wire_type}; 0, 1, 2 and 5 are known")
        if position + length > len(message):
            raise AssetError(f"protobuf field {number} needs {length} bytes, {len(message) - position} are left")
        yield Field(number=number, value=message[position : position + length])
        position += length


def _read_varint(message: memoryview, position: int) -> tuple[int, int]:
    """Returns the number that starts at `position`, and the position behind it."""
    number, shift = 0, 0
    while True:
        if position >= len(message):
            raise AssetError("protobuf message ends inside a number")
        byte = message[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7


def _as_bytes(field: Field) -> memoryview:
    if isinstance(field.value, int):
        raise AssetError(f"protobuf field {field.number} is a number where bytes were expected")
    return field.value


def _all_bytes(message: memoryview, number: int) -> list[memoryview]:
    return [_as_bytes(field) for field in read_fields(message) if field.number == number]


def _text(message: memoryview, number: int) -> str:
    values = _all_bytes(message, number)
    return bytes(values[-1]).decode() if values else ""


def _numbers(message: memoryview, number: int) -> list[int]:
    """Returns a repeated integer field, whether written one by one or packed."""
    found: list[int] = []
    for field in read_fields(message):
        if field.number != number:
            continue
        if isinstance(field.value, int):
            found.append(field.value)
            continue
        position = 0
        while position < len(field.value):
            value, position = _read_varint(field.value, position)
            found.append(value)
    return found


def _read_node(message: memoryview) -> OnnxNode:
    return OnnxNode(
        name=_text(message, _NODE_NAME),
        op_type=_text(message, _NODE_OP_TYPE),
        inputs=tuple(bytes(value).decode() for value in _all_bytes(message, _NODE_INPUT)),
        outputs=tuple(bytes(value).decode() for value in _all_bytes(message, _NODE_OUTPUT)),
    )


def _read_tensor(message: memoryview) -> np.ndarray:
    name = _text(message, _TENSOR_NAME)
    shape = _numbers(message, _TENSOR_DIMS)
    data_type = _numbers(message, _TENSOR_DATA_TYPE)[-1:]
    raw = _all_bytes(message, _TENSOR_RAW_DATA)
    if not data_type or data_type[0] not in _DTYPES or len(raw) != 1:
        raise AssetError(
            f"tensor {name!r}: data type {data_type} or its storage is not read; raw data of {_DTYPES} are"
        )
    values = np.frombuffer(raw[0], dtype=_DTYPES[data_type[0]])
    if values.size != int(np.prod(shape, dtype=np.int64)):
        raise AssetError(f"tensor {name!r}: {values.size} values for the shape {shape}")
    return values.reshape(shape)
