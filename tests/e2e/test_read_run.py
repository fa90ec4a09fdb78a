"""What judging new pictures takes from a run folder, and what is said if it is not there."""

import json
import shutil
from pathlib import Path

import pytest

from velm_train.cli.load_inspector import read_run
from velm_train.core.answer_scores import AnswerPolicy, CostMatrix, OperatingPoint, SortPolicy, Temperature
from velm_train.core.errors import ArtifactError

ANSWERS = AnswerPolicy(
    temperature=Temperature(value=2.0, num_rows=9, nll_before=1.0, nll_after=0.9),
    sets=None,
    sets_note="too few",
    sorting=SortPolicy(
        max_error=0.1,
        confidence=0.9,
        min_log_odds=None,
        all_kept=False,
        num_answers=0,
        num_kept=0,
        num_errors=0,
        note="too few",
    ),
    operating_point=OperatingPoint(
        costs=CostMatrix(missed_defect=1.0, false_alarm=1.0, wrong_type=1.0, human_look=1.0),
        defect_share=0.1,
        min_confidence=0.5,
        expected_cost=0.0,
        num_defects=1,
        num_false_alarms=1,
        note="",
    ),
    operating_note="",
    categories=("wood_oak",),
    num_rows=9,
    num_parts=9,
)


def test_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"lacks config\.yaml, gates\.json, split\.json, system\.json: name the"):
        read_run(tmp_path, artifacts=None, assets=None)


def test_missing_artefact_is_named_with_the_way_to_make_it(road, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(road.folder, run, ignore=shutil.ignore_patterns("wandb", "csv"))
    body = json.loads((run / "system.json").read_text())
    key = body["categories"]["wood_oak"]["detector_key"]
    (run / "system.json").write_text(json.dumps(body | {"artifacts": str(tmp_path / "gone")}))
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


def test_calibration_of_answers_is_part_of_the_system(road, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(road.folder, run, ignore=shutil.ignore_patterns("wandb", "csv"))
    (run / "answers.json").write_text(json.dumps(ANSWERS.to_json()))
    found = read_run(run, artifacts=None, assets=None)
    assert found.answers == ANSWERS
    assert (found.abstention(None), found.abstention(0.25)) == (0.5, 0.25)
    assert found.identity != read_run(road.folder, artifacts=None, assets=None).identity
    (run / "answers.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"answers\.json: answer policy: schema version None"):
        read_run(run, artifacts=None, assets=None)


def test_system_file_of_another_version_is_refused(road, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(road.folder, run, ignore=shutil.ignore_patterns("wandb", "csv"))
    body = json.loads((run / "system.json").read_text())
    for content, message in (
        (body | {"schema_version": 99}, r"schema version 99, expected 1"),
        ({name: body[name] for name in body if name != "taxonomy"}, r"cannot be read \('taxonomy'\)"),
    ):
        (run / "system.json").write_text(json.dumps(content))
        with pytest.raises(ArtifactError, match=message):
            read_run(run, artifacts=None, assets=None)
