"""Tasks that leave no run folder."""

from pathlib import Path

import pytest

from velm_train.cli.compose import conf_dir, experiment_names, load_config
from velm_train.cli.launch.look_after import LOOKED_AFTER
from velm_train.cli.tasks import TASKS, required_assets, run_task


def test_every_task_of_the_configuration_is_done_by_something() -> None:
    assert sorted([*TASKS, *LOOKED_AFTER]) == sorted(path.stem for path in (conf_dir() / "task").glob("*.yaml"))


def test_doctor_says_what_every_experiment_lacks(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("VELM_ASSETS", str(tmp_path / "assets"))
    run_task(load_config(["task=doctor", f"paths.artifacts={tmp_path / 'artifacts'}"]), run_folder=None)
    shown = capsys.readouterr().out
    for name in (*experiment_names(), "paths.assets", "dinov2_small"):
        assert name in shown, name
    assert list(tmp_path.iterdir()) == []  # it looks and makes nothing


@pytest.mark.parametrize(("words", "expected"), [([], "material_photos"), (["experiment=textile"], "textile_images")])
def test_required_assets_are_those_of_model_detector_and_pictures(words: list[str], expected: str) -> None:
    needed = required_assets(load_config(words))
    assert needed == tuple(sorted({"smollm2_135m_instruct", "efficientnet_lite0", "dinov2_small", expected}))


def test_own_images_need_no_embedded_pictures(tmp_path: Path) -> None:
    config = load_config(["dataset=table", f"dataset.root={tmp_path / 'parts.csv'}"])
    assert required_assets(config) == ("dinov2_small", "efficientnet_lite0", "smollm2_135m_instruct")
