"""What task=export refuses before it loads any weight, and folders that appear whole or not at all."""

from pathlib import Path

import pytest

from velm_train.cli import export_model
from velm_train.cli.compose import load_config, resolved_yaml
from velm_train.cli.run_config import read_run_config, with_folders
from velm_train.cli.tasks import run_task
from velm_train.core.errors import ArtifactError, ConfigError, ResourceError


def export(*words: str) -> None:
    run_task(load_config(["task=export", *words]), run_folder=None)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["task=export"], "ckpt=null is not possible; allowed: for example task=export ckpt=outputs/runs/"),
        (["ckpt=somewhere"], "ckpt=somewhere is not possible; allowed: null unless task=predict or task=export"),
        (["task=export", "ckpt=x", "export.num_images=0"], "export.num_images=0 is not possible"),
        (["task=export", "ckpt=x", "export.tolerance_nats=0"], "export.tolerance_nats=0.0 is not possible"),
        (["task=export", "ckpt=x", "export.onnx_tolerance=1"], "export.onnx_tolerance=1.0 is not possible"),
        (["task=export", "ckpt=x", "export.dtype=int8"], "allowed: float32, bfloat16"),
        (["task=export", "ckpt=x", "input=a.png"], "input=a.png is not possible; allowed: null unless task=predict"),
    ],
)
def test_impossible_settings_are_refused_by_name(words: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(words)
    assert expected in str(caught.value)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"gone is not there; name the folder of a finished run"):
        export(f"ckpt={tmp_path / 'gone'}")
    with pytest.raises(
        ArtifactError, match=r"lacks config\.yaml, adapter/manifest\.json: name the folder of a finished"
    ):
        export(f"ckpt={tmp_path}")
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    with pytest.raises(ArtifactError, match=r"lacks adapter/manifest\.json: name the folder of a finished run"):
        export(f"ckpt={tmp_path}")


@pytest.mark.parametrize("text", ["lora: {r: 4}\n", "- 1\n", "a: [", "seed: no number\n"])
def test_settings_of_another_version_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ArtifactError, match=r"config\.yaml cannot be read by this version .*; repeat the run"):
        read_run_config(tmp_path, needed=())


def test_a_run_of_a_gpu_is_computed_on_the_cpu_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "config.yaml").write_text(resolved_yaml(load_config(["trainer=gpu"])))
    for there, accelerator in ((True, "gpu"), (False, "cpu")):
        monkeypatch.setattr("torch.cuda.is_available", lambda there=there: there)
        assert read_run_config(tmp_path, needed=()).trainer.accelerator == accelerator
    assert caplog.text.count("there is none here") == 1


def test_folders_of_the_run_are_used_where_they_exist(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    run = load_config([f"paths.artifacts={tmp_path}/theirs", f"paths.assets={tmp_path}/gone"])
    here = load_config([f"paths.artifacts={tmp_path}/ours", f"paths.assets={tmp_path}/found"]).paths
    paths = with_folders(run, here=here).paths
    assert (paths.artifacts, paths.assets) == (f"{tmp_path}/theirs", f"{tmp_path}/found")


def test_missing_packages_are_named_before_anything_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing() -> None:
        raise ResourceError("ONNX files need onnx")

    monkeypatch.setattr(export_model, "require_onnx", missing)
    with pytest.raises(ResourceError, match="ONNX files need onnx"):
        export(f"ckpt={tmp_path}", "export.onnx=true")


def test_a_folder_appears_when_it_is_finished(tmp_path: Path) -> None:
    target = tmp_path / "new" / "export"
    with export_model.appearing(target) as folder:
        (folder / "file").write_text("whole")
        assert not target.exists()
    assert (target / "file").read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_vanishes_if_it_cannot_be_finished(tmp_path: Path) -> None:
    def write_half() -> None:
        with export_model.appearing(tmp_path / "export") as folder:
            (folder / "file").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ResourceError, match=r"set export\.folder to a folder you may write"),
        export_model.appearing(tmp_path / "file" / "export"),
    ):
        pass
