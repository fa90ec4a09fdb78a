"""A finished run is exported, checked, and left alone if the check fails."""

import json
from pathlib import Path

import pytest

from velm_train.cli import export_model
from velm_train.cli.compose import load_config
from velm_train.cli.tasks import run_task
from velm_train.core.errors import ArtifactError, ConfigError, ExportError
from velm_train.models.export import checked


def export(road, target: Path, *words: str) -> None:
    run_task(
        load_config(["task=export", "threads=1", f"ckpt={road.folder}", f"export.folder={target}", *words]),
        run_folder=None,
    )


def test_a_run_is_exported_with_the_figures_of_its_check(road, tmp_path: Path, capsys) -> None:
    target = tmp_path / "export"
    export(road, target, "export.num_images=3")
    report = json.loads((target / "export.json").read_text())
    for form in ("merged", "reloaded"):
        assert report[form]["flipped"] == []
        assert 0 <= report[form]["largest_difference_nats"] < report["tolerance_nats"] == 1e-3
        assert report[form]["num_images"] == 3
    assert report["evidence_difference"] == 0.0
    assert report["scored_in_the_run"]["num_images"] == 3
    assert report["onnx"] == {}
    assert sorted(path.name for path in (target / "model").iterdir()) == [
        "language_model",
        "look_twice.safetensors",
        "manifest.json",
        "projector.safetensors",
    ]
    shown = capsys.readouterr().out
    assert "labels that differ" in shown
    assert "reused detections/" in shown
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(ConfigError, match=r"export\.folder=.* is there already"):
        export(road, target)


def test_a_failed_check_leaves_nothing(road, tmp_path: Path, monkeypatch) -> None:
    plain = checked.merge_adapters

    def spoilt(model, *, dtype):
        origin = plain(model, dtype=dtype)
        model.language_model.model.norm.weight.data.mul_(0.5)
        return origin

    monkeypatch.setattr(checked, "merge_adapters", spoilt)
    with pytest.raises(ExportError, match="the merged model does not answer like the one with its adapter"):
        export(road, tmp_path / "export", "export.num_images=2")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_adapter_is_refused_by_name_before_any_stage(road, tmp_path: Path, monkeypatch) -> None:
    def unreachable(_: object) -> None:
        raise AssertionError("a stage was entered")

    copy = tmp_path / "run"
    (copy / "adapter").mkdir(parents=True)
    for path in (road.folder / "config.yaml", *(road.folder / "adapter").iterdir()):
        (copy / path.relative_to(road.folder)).write_bytes(path.read_bytes())
    monkeypatch.setattr(export_model, "prepare", unreachable)
    with (copy / "adapter" / "projector.safetensors").open("ab") as stream:
        stream.write(b"\x00")
    with pytest.raises(ArtifactError, match=r"projector\.safetensors is damaged"):
        run_task(load_config(["task=export", "threads=1", f"ckpt={copy}"]), run_folder=None)
    assert not (copy / "export").exists()


@pytest.mark.slow
def test_graphs_are_written_beside_the_model(road, tmp_path: Path) -> None:
    target = tmp_path / "export"
    export(road, target, "export.num_images=3", "export.onnx=true")
    report = json.loads((target / "export.json").read_text())
    assert {path.name for path in (target / "onnx").iterdir()} == {"look_twice.onnx", "backbone.onnx"}
    assert all(graph["relative"] < report["onnx_tolerance"] for graph in report["onnx"].values())
