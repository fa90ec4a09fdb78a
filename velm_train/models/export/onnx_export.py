"""Real evidence and real pictures in, checked ONNX files of look-twice adapter and backbone out."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float

from velm_train.backbones.protocol import Backbone
from velm_train.core.batch import VisionEvidence
from velm_train.models.build import BuiltModel
from velm_train.models.export.onnx_graph import OnnxParity, measure_parity, require_parity, write_onnx
from velm_train.models.export.onnx_parts import backbone_module, look_twice_inputs, look_twice_module, tile_layout

LOOK_TWICE_FILE = "look_twice.onnx"
BACKBONE_FILE = "backbone.onnx"
_PICTURES_A_RUN = 4


def export_look_twice(
    model: BuiltModel, evidence: Sequence[VisionEvidence], folder: Path, *, tolerance: float
) -> OnnxParity:
    """Writes the adapter's graph and compares it with the adapter.

    Args:
        model: with an adapter, in evaluation mode.
        evidence: of real views, one or more batches.
        folder: that exists.
        tolerance: largest difference as a share of an output's largest value.

    Raises:
        ConfigError: if a graph cannot express the adapter.
        ExportError: if the graph computes something else.
        ResourceError: if an optional package is missing.
    """
    assert model.look_twice is not None, "a model with a second look"
    graph = look_twice_module(model.look_twice, layout=tile_layout(model))
    tried = [inputs for part in evidence for inputs in look_twice_inputs(model, part)]
    path = folder / LOOK_TWICE_FILE
    write_onnx(graph, tried[0], path)
    parity = measure_parity(graph, tried, path)
    require_parity(parity, tolerance=tolerance)
    return parity


def export_backbone(
    backbone: Backbone,
    images: Float[torch.Tensor, "n 3 H W"],
    folder: Path,
    *,
    layers: Sequence[str],
    tolerance: float,
) -> OnnxParity:
    """Writes the graph of a gate's backbone for one picture size and compares it with the backbone, in float32.

    Args:
        backbone: frozen, on the CPU.
        images: real pictures as the detector sees them, RGB in 0..1.
        folder: that exists.
        layers: that the detector reads.
        tolerance: largest difference as a share of a layer's largest value.

    Raises:
        ConfigError: if the backbone has no network to export.
        ExportError: if the graph computes something else.
        ResourceError: if an optional package is missing.
    """
    graph = backbone_module(backbone, layers=layers)
    tried = [{"images": part} for part in torch.split(images, _PICTURES_A_RUN)]
    path = folder / BACKBONE_FILE
    write_onnx(graph, tried[0], path)
    parity = measure_parity(graph, tried, path)
    require_parity(parity, tolerance=tolerance)
    return parity
