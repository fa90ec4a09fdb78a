"""Hash and text of a fitted state."""

import numpy as np

from velm_train.detectors.state import array_to_text, hash_arrays, text_to_array


def test_text_survives():
    assert array_to_text(text_to_array('["a/é", "b"]')) == '["a/é", "b"]'


def test_hash_sees_names_values_shapes_and_types_but_not_order():
    arrays = {"a": np.arange(6, dtype=np.int32), "b": np.ones(2)}
    reference = hash_arrays(arrays)
    assert hash_arrays(dict(reversed(arrays.items()))) == reference
    assert hash_arrays({**arrays, "a": np.arange(6, dtype=np.int32).reshape(2, 3)}) != reference
    assert hash_arrays({**arrays, "a": np.arange(6, dtype=np.uint32)}) != reference
    assert hash_arrays({**arrays, "b": np.array([1.0, 2.0])}) != reference
    assert hash_arrays({"a": arrays["a"], "c": arrays["b"]}) != reference
