"""The reader against messages written out byte by byte."""

import numpy as np
import pytest

from velm_train.assets.onnx_reader import read_fields, read_onnx
from velm_train.core.errors import AssetError


def number(field: int, value: int) -> bytes:
    assert value < 128
    return bytes([field << 3, value])


def block(field: int, content: bytes) -> bytes:
    assert len(content) < 128
    return bytes([field << 3 | 2, len(content)]) + content


WEIGHTS = np.array([[1.5, -2.0, 0.25], [0.0, 1e-3, 3e8]], dtype="<f4")
TENSOR = number(1, 2) + number(1, 3) + number(2, 1) + block(8, b"w") + block(9, WEIGHTS.tobytes())
NODE = block(1, b"x") + block(1, b"w") + block(2, b"y") + block(3, b"/fc/MatMul") + block(4, b"MatMul")
MODEL = number(1, 7) + block(2, b"exporter") + block(7, block(1, NODE) + block(2, b"main") + block(5, TENSOR))


def test_known_bytes_are_known_fields():
    # Field 1 varint 300 (the example of the protobuf documentation), field 2 text, field 3 and 4 of fixed width.
    message = b"\x08\xac\x02" + b"\x12\x02hi" + b"\x1d\x01\x00\x00\x00" + b"\x21" + bytes(8)
    fields = [
        (field.number, field.value if isinstance(field.value, int) else bytes(field.value))
        for field in read_fields(memoryview(message))
    ]
    assert fields == [(1, 300), (2, b"hi"), (3, b"\x01\x00\x00\x00"), (4, bytes(8))]


def test_graph_has_the_tensor_and_the_node(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(MODEL)
    graph = read_onnx(path)
    np.testing.assert_array_equal(graph.tensors["w"], WEIGHTS)
    assert graph.tensors["w"].dtype == np.float32
    (node,) = graph.nodes
    assert (node.name, node.op_type, node.inputs, node.outputs) == ("/fc/MatMul", "MatMul", ("x", "w"), ("y",))


def test_packed_dims_are_the_same_as_single_ones(tmp_path):
    packed = block(1, b"\x02\x03") + TENSOR[4:]
    (tmp_path / "m.onnx").write_bytes(block(7, block(5, packed)))
    np.testing.assert_array_equal(read_onnx(tmp_path / "m.onnx").tensors["w"], WEIGHTS)


def test_scalar_has_no_dims(tmp_path):
    scalar = number(2, 7) + block(8, b"s") + block(9, (5).to_bytes(8, "little"))
    (tmp_path / "m.onnx").write_bytes(block(7, block(5, scalar)))
    tensor = read_onnx(tmp_path / "m.onnx").tensors["s"]
    assert tensor.shape == ()
    assert tensor == 5


@pytest.mark.parametrize("cut", [1, 5, len(MODEL) - 20])
def test_cut_file_is_refused(tmp_path, cut):
    (tmp_path / "m.onnx").write_bytes(MODEL[:-cut])
    with pytest.raises(AssetError, match=r"are left|ends inside a number|graphs"):
        read_onnx(tmp_path / "m.onnx")


def test_unknown_wire_type_is_refused():
    with pytest.raises(AssetError, match="wire type 3"):
        list(read_fields(memoryview(b"\x0b")))


def test_file_without_a_graph_is_refused(tmp_path):
    (tmp_path / "m.onnx").write_bytes(number(1, 7))
    with pytest.raises(AssetError, match="0 graphs"):
        read_onnx(tmp_path / "m.onnx")


def test_values_that_do_not_fill_the_shape_are_refused(tmp_path):
    wrong = number(1, 4) + TENSOR[2:]
    (tmp_path / "m.onnx").write_bytes(block(7, block(5, wrong)))
    with pytest.raises(AssetError, match=r"6 values for the shape \[4, 3\]"):
        read_onnx(tmp_path / "m.onnx")


def test_storage_outside_raw_data_is_refused(tmp_path):
    (tmp_path / "m.onnx").write_bytes(block(7, block(5, number(2, 1) + block(8, b"w"))))
    with pytest.raises(AssetError, match="tensor 'w'"):
        read_onnx(tmp_path / "m.onnx")
