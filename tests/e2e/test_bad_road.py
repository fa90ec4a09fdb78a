"""What goes wrong on the road is one line that says what was got, what is allowed and what to do."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from velm_train.cli.compose import load_config
from velm_train.cli.tasks import run_task
from velm_train.core.errors import (
    ArtifactError,
    GateError,
    ResourceError,
    VelmError,
)


@pytest.fixture
def problem(run_again) -> Callable[..., str]:
    """Returns a function that runs into an error of a kind and gives its message."""

    def run(kind: type[VelmError], *words: str) -> str:
        with pytest.raises(kind) as caught:
            run_again(*words)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return run


def test_alpha_below_the_floor_names_number_and_floor(problem) -> None:
    message = problem(GateError, "task=detect", "gate.alpha=0.1", "gate.training_alpha=0.5")
    assert "5 " in message  # normals
    assert "0.1667" in message or "1/6" in message  # the smallest alpha


def test_nearly_full_disk_is_met_before_the_features_are_computed(problem, monkeypatch) -> None:
    plain = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: plain(path)._replace(free=10**6))
    words = ("task=train", "regions.contour_width_px=3", "trainer.feature_cache=on", "logger=none")
    message = problem(ResourceError, *words)
    assert message.startswith("disk nearly full at ")
    assert message.endswith("free some space or set paths.artifacts to another disk")


def test_artifact_folder_below_a_file_is_refused_with_the_setting_to_change(tmp_path: Path, road) -> None:
    (tmp_path / "file").write_text("")
    config = load_config(["debug=fast", f"paths.artifacts={tmp_path / 'file' / 'artifacts'}", "task=detect"])
    with pytest.raises(ResourceError, match=r"set paths\.artifacts to a folder you may write"):
        run_task(config, run_folder=None)


def test_run_folder_below_a_file_is_refused(tmp_path: Path, road) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="check that the folder is writable"):
        run_task(road.config, run_folder=tmp_path / "file" / "run")


def test_damaged_artefact_is_refused_by_name(problem, road, run_again) -> None:
    run_again("task=detect", "seed=2", "gate.alpha=0.4")
    (folder,) = {
        path.parent for path in road.artifacts.glob("gates/*/gates.json") if '"alpha": 0.4' in path.read_text()
    }
    (folder / "gates.json").write_text("{}")
    message = problem(ArtifactError, "task=detect", "seed=2", "gate.alpha=0.4")
    assert "gates.json is damaged" in message
    assert f"delete {folder}" in message


def test_sample_longer_than_allowed_is_refused_at_once_and_not_cut(problem) -> None:
    message = problem(VelmError, "task=train", "instructions.max_tokens=16", "logger=none")
    assert "max_tokens" in message
