"""What judging new pictures takes from a run folder, and what is said if it is not there."""

import json
import shutil
from pathlib import Path

import pytest

from velm_train.cli.load_inspector import read_run
from velm_train.core.errors import ArtifactError
from velm_train.core.hashing import sha256_file, sha256_json


@pytest.fixture
def copied_run(road, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may change."""
    run = tmp_path / "run"
    shutil.copytree(road.folder, run, ignore=shutil.ignore_patterns("wandb", "csv"))
    return run


def reseal(run: Path, **changes: object) -> None:
    """Changes system.json as the program itself would."""
    body = json.loads((run / "system.json").read_text()) | changes
    del body["sha256"]
    (run / "system.json").write_text(json.dumps(body | {"sha256": sha256_json(body)}))


def test_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"lacks config\.yaml, gates\.json, split\.json, system\.json: name the"):
        read_run(tmp_path, artifacts=None, assets=None)


def test_folder_that_is_not_there_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"ckpt=.*gone is not there; name the folder of a finished run"):
        read_run(tmp_path / "gone", artifacts=None, assets=None)


def test_missing_artefact_is_named_with_the_way_to_make_it(road, copied_run: Path, tmp_path: Path) -> None:
    run = copied_run
    key = json.loads((run / "system.json").read_text())["categories"]["wood_oak"]["detector_key"]
    reseal(run, artifacts=str(tmp_path / "gone"))
    (run / ".hydra").mkdir()
    (run / ".hydra" / "overrides.yaml").write_text("- debug=fast\n- seed=0\n")
    with pytest.raises(ArtifactError) as caught:
        read_run(run, artifacts=None, assets=None)
    assert str(caught.value).startswith("the fitted detector of this run, detectors/")
    assert str(caught.value).endswith("make it anew: python -m velm_train debug=fast seed=0")
    for stage in ("detectors", "adapters"):  # moved, and found where it was moved to
        shutil.copytree(road.artifacts / stage, tmp_path / "moved" / stage)
    shutil.rmtree(run / "adapter")
    read_run(run, artifacts=tmp_path / "moved", assets=None)
    (tmp_path / "moved" / "detectors" / key / "state.npz").write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match=r"state\.npz is damaged"):
        read_run(run, artifacts=tmp_path / "moved", assets=None)


def test_calibration_of_answers_is_part_of_the_system(road, copied_run: Path, answer_policy, operating_point) -> None:
    answers = answer_policy(temperature=2.0, category="wood_oak", point=operating_point(0.5))
    path = copied_run / "answers.json"
    path.write_text(json.dumps(answers.to_json()))
    found = read_run(copied_run, artifacts=None, assets=None)
    assert found.answers == answers
    assert (found.abstention(None), found.abstention(0.25)) == (0.5, 0.25)
    assert found.identity != read_run(road.folder, artifacts=None, assets=None).identity
    path.write_text("{}")
    with pytest.raises(ArtifactError, match=r"answers\.json: answer policy: schema version None"):
        read_run(copied_run, artifacts=None, assets=None)


def test_system_file_of_another_version_is_refused(copied_run: Path) -> None:
    path = copied_run / "system.json"
    body = json.loads(path.read_text())
    for content, message in (
        (body | {"schema_version": 99}, r"schema version 99, expected 2"),
        ({name: body[name] for name in body if name != "sha256"}, r"cannot be read \('sha256'\)"),
        (body | {"adapter_key": "0"}, r"system\.json was changed after the run"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(ArtifactError, match=message):
            read_run(copied_run, artifacts=None, assets=None)
    path.write_text(json.dumps(body))
    reseal(copied_run, taxonomy={})
    with pytest.raises(ArtifactError, match=r"cannot be read \('dataset'\)"):
        read_run(copied_run, artifacts=None, assets=None)


@pytest.mark.parametrize(
    "name", ["gates.json", "split.json", "config.yaml", "answers.json", "references/wood_oak/0.png"]
)
def test_file_that_was_edited_is_refused_by_name(name: str, copied_run: Path) -> None:
    path = copied_run / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
        body = json.loads((copied_run / "system.json").read_text())
        reseal(copied_run, files=body["files"] | {name: sha256_file(path)})
    path.write_text(path.read_text() + " ")
    with pytest.raises(ArtifactError, match=rf"{name} was changed after the run: its hash is another one; restore it"):
        read_run(copied_run, artifacts=None, assets=None)
    path.unlink()
    with pytest.raises(ArtifactError, match=rf"{name} is missing; restore it|lacks {name}"):
        read_run(copied_run, artifacts=None, assets=None)


def test_adapter_that_is_not_the_runs_is_refused_before_any_row_is_remembered(copied_run: Path) -> None:
    manifest = copied_run / "adapter" / "manifest.json"
    whole = manifest.read_text()
    manifest.write_text(whole + " ")
    with pytest.raises(ArtifactError, match=r"adapter/manifest\.json was changed after the run"):
        read_run(copied_run, artifacts=None, assets=None)
    manifest.write_text(whole)
    with (copied_run / "adapter" / "projector.safetensors").open("ab") as stream:
        stream.write(b"\x00")
    with pytest.raises(ArtifactError, match=r"projector\.safetensors is damaged"):
        read_run(copied_run, artifacts=None, assets=None)
