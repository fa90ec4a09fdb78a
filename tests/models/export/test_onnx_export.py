"""ONNX graphs compute what their modules compute, for sizes that the exporter never saw; others are refused."""

import dataclasses
import importlib

import pytest
import torch

from velm_train.backbones.load import load_backbone
from velm_train.backbones.preprocess import resize_batch
from velm_train.core.batch import VisionEvidence
from velm_train.core.errors import ConfigError, ExportError, ResourceError
from velm_train.models.export.onnx_export import export_backbone, export_look_twice
from velm_train.models.export.onnx_graph import OnnxModule, OnnxParity, measure_parity, require_onnx, require_parity
from velm_train.models.export.onnx_parts import look_twice_inputs, look_twice_module
from velm_train.models.families.build import assemble_family
from velm_train.models.families.tiny import build_tiny
from velm_train.models.look_twice.adapter import LookTwiceSettings


def _with_map(evidence: VisionEvidence, *, seed: int = 3) -> VisionEvidence:
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.rand(evidence.map_scores.shape, generator=generator)
    return dataclasses.replace(evidence, map_scores=scores)


@pytest.fixture(scope="module")
def qwen():
    settings = LookTwiceSettings(source="fused", dim=16)
    return assemble_family(build_tiny("qwen2_5_vl"), look_twice=settings, lora=None, seed=0).eval()


def test_a_graph_of_whole_views_takes_any_number_of_views_and_grids(qwen, pictures, tmp_path) -> None:
    evidence = [_with_map(qwen.encode_views(pictures[:2])), _with_map(qwen.encode_views(pictures[2:]))]
    assert evidence[0].final.shape[:2] != evidence[1].final.shape[:2]
    assert any(rows != columns for rows, columns in evidence[0].grid_hw.tolist())
    parity = export_look_twice(qwen, evidence, tmp_path, tolerance=1e-5)
    assert parity.num_rows == 3
    assert set(parity.outputs) == {"token_scores", "second_look", "image_logits"}
    assert 0 < parity.relative < 1e-5

    graph = look_twice_module(qwen.look_twice, layout="one_tile_per_view")
    with torch.no_grad():  # the same file against other weights
        qwen.look_twice.scorer.mlp[2].bias.add_(0.5)
    off = measure_parity(graph, look_twice_inputs(qwen, evidence[0]), tmp_path / parity.file)
    assert off.outputs["image_logits"] == pytest.approx(0.5, abs=1e-5)
    with pytest.raises(ExportError, match=r"look_twice\.onnx: largest difference to the module is .*onnx_tolerance"):
        require_parity(off, tolerance=1e-3)


@pytest.mark.slow
def test_a_graph_of_one_view_takes_any_number_of_tiles(pictures, tmp_path) -> None:
    model = assemble_family(
        build_tiny("internvl"), look_twice=LookTwiceSettings(source="learned", dim=16), lora=None, seed=0
    ).eval()
    evidence = model.encode_views(pictures)
    tiles = torch.bincount(evidence.view_index).tolist()
    assert len(set(tiles)) > 1, tiles
    parity = export_look_twice(model, [evidence], tmp_path, tolerance=1e-5)
    assert parity.num_rows == sum(tiles)


@pytest.mark.slow
def test_a_graph_of_a_backbone_takes_any_number_of_pictures(assets, pictures, tmp_path) -> None:
    backbone = load_backbone("efficientnet_lite0", assets=assets)
    images = resize_batch([*pictures, *pictures], (64, 96))
    parity = export_backbone(backbone, images, tmp_path, layers=["stride8", "stride16"], tolerance=1e-4)
    assert parity.num_rows == 6
    assert set(parity.outputs) == {"stride8", "stride16"}


@pytest.mark.slow
def test_the_default_backbone_has_a_graph(assets, pictures, tmp_path) -> None:
    backbone = load_backbone("dinov2_small", assets=assets)
    images = resize_batch([*pictures, *pictures], (98, 126))  # six: four and then two
    assert export_backbone(backbone, images, tmp_path, layers=["block6"], tolerance=1e-4).relative < 1e-4


def test_a_graph_with_a_fixed_size_is_refused(tmp_path) -> None:
    class Fixed(torch.nn.Module):
        def forward(self, images):
            return (images.reshape(2, -1),)

    images = torch.rand(2, 3, 4)
    path = tmp_path / "fixed.onnx"
    torch.onnx.export(Fixed(), (images,), path, dynamo=True, input_names=["images"], output_names=["y"], verbose=False)
    graph = OnnxModule(module=Fixed(), outputs=("y",), dynamic={"images": {0: "images"}})
    with pytest.raises(ExportError, match=r"fixed\.onnx takes a fixed number of images \(2\)"):
        measure_parity(graph, [{"images": images}], path)


@pytest.mark.parametrize("settings", [LookTwiceSettings(source="random"), LookTwiceSettings(source="oracle")])
def test_control_rows_have_no_graph(settings, pictures, tmp_path) -> None:
    model = assemble_family(build_tiny("qwen2_5_vl"), look_twice=settings, lora=None, seed=0)
    with pytest.raises(ConfigError, match=f"look_twice.source={settings.source}.* has no ONNX graph"):
        export_look_twice(model, [model.encode_views(pictures[:1])], tmp_path, tolerance=1.0)


def test_a_missing_package_is_named_with_the_remedy(monkeypatch) -> None:
    plain = importlib.import_module

    def without(name: str, package: str | None = None):
        if name == "onnxruntime":
            raise ImportError(name)
        return plain(name, package)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(ResourceError, match=r"ONNX files need onnxruntime; run `pip install .*\[onnx\]"):
        require_onnx()


def test_a_graph_that_is_not_a_number_anywhere_is_refused() -> None:
    parity = OnnxParity(file="x.onnx", outputs={"y": float("nan")}, relative=float("inf"), num_rows=1)
    with pytest.raises(ExportError):
        require_parity(parity, tolerance=1e9)
