"""Names and layouts of converted vision weights, on hand-made sources and on the real assets."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch_file

from velm_train.assets.onnx_reader import OnnxGraph, OnnxNode
from velm_train.assets.registry import EFFICIENTNET_PTH
from velm_train.assets.vision_weights import convert_efficientnet, dinov2_tensors
from velm_train.core.errors import AssetError

LINEAR_LAYERS = (
    "attention/attention/query",
    "attention/attention/key",
    "attention/attention/value",
    "attention/output/dense",
    "mlp/fc1",
    "mlp/fc2",
)


def graph_of_twelve_blocks(num_blocks: int = 12) -> OnnxGraph:
    tensors = {
        "backbone.embeddings.cls_token": np.full((1, 1, 4), 3, dtype=np.float32),
        "onnx::Concat_1957": np.zeros((1, 1, 4), dtype=np.float32),
        "onnx::Reshape_1962": np.ones((1, 9, 4), dtype=np.float32),
        "decoder.bias": np.zeros(2, dtype=np.float32),
    }
    nodes = [OnnxNode(name="/decoder/MatMul", op_type="MatMul", inputs=("a", "decoder.bias"), outputs=("b",))]
    for block in range(num_blocks):
        for index, layer in enumerate(LINEAR_LAYERS):
            weight = f"onnx::MatMul_{block}_{index}"
            tensors[weight] = np.full((4, 8), 10 * block + index, dtype=np.float32)
            tensors[weight][0, 1] = -1
            name = f"/backbone/encoder/layer.{block}/{layer}/MatMul"
            nodes.append(OnnxNode(name=name, op_type="MatMul", inputs=("x", weight), outputs=("y",)))
    return OnnxGraph(tensors=tensors, nodes=tuple(nodes))


def test_linear_weights_get_their_names_back_and_are_transposed():
    tensors = dinov2_tensors(graph_of_twelve_blocks())
    key = tensors["encoder.layer.11.attention.attention.key.weight"]
    assert key.shape == (8, 4)
    assert key[1, 0] == -1
    assert key[0, 1] == 111
    assert len([name for name in tensors if name.startswith("encoder.")]) == 72
    assert not any("decoder" in name or "onnx" in name for name in tensors)


def test_position_embeddings_start_with_the_class_token():
    positions = dinov2_tensors(graph_of_twelve_blocks())["embeddings.position_embeddings"]
    assert positions.shape == (1, 10, 4)
    assert positions[0, :, 0].tolist() == [0] + [1] * 9


def test_incomplete_graph_is_refused():
    with pytest.raises(AssetError, match="66 linear layers, expected 72"):
        dinov2_tensors(graph_of_twelve_blocks(num_blocks=11))


def test_efficientnet_names_lose_underscores_and_layouts_are_kept(tmp_path):
    path = tmp_path / EFFICIENTNET_PTH
    path.parent.mkdir(parents=True)
    kernel = torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1)
    torch.save({"_blocks.0._bn1.running_mean": torch.ones(3), "_conv_stem.weight": kernel}, path)
    made = tmp_path / "made"
    made.mkdir()
    convert_efficientnet(tmp_path, made)
    read = load_torch_file(made / "model.safetensors")
    assert set(read) == {"blocks.0.bn1.running_mean", "conv_stem.weight"}
    assert torch.equal(read["conv_stem.weight"], kernel)


def test_real_dinov2_has_the_size_of_vit_small(assets):
    tensors = load_file(assets.ensure("dinov2_small") / "model.safetensors")
    assert tensors["embeddings.position_embeddings"].shape == (1, 1 + 37 * 37, 384)
    assert tensors["encoder.layer.0.mlp.fc1.weight"].shape == (1536, 384)
    # Parameters of ViT-S/14: 12 blocks of 12 * 384^2 + 13 * 384 and two scales, embeddings, the last norm.
    block = 12 * 384**2 + (4 + 4 + 1) * 384 + 4 * 384 + 2 * 384
    embeddings = 384 * 3 * 14 * 14 + 384 + (1 + 1 + 1370) * 384
    assert sum(tensor.size for tensor in tensors.values()) == 12 * block + embeddings + 2 * 384
