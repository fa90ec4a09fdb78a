"""Arrays of any memory layout come back as they were."""

import numpy as np
from safetensors.numpy import load_file

from velm_train.assets.weights_file import write_weights


def test_transposed_views_come_back_equal(tmp_path):
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    tensors = {"plain": values, "view": values.transpose(2, 0, 1), "strided": values[:, ::2], "scalar": np.array(7)}
    write_weights(tensors, tmp_path)
    read = load_file(tmp_path / "model.safetensors")
    assert set(read) == set(tensors)
    for name, expected in tensors.items():
        np.testing.assert_array_equal(read[name], expected, err_msg=name)
        assert read[name].dtype == expected.dtype
