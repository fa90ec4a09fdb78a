"""Our own predictions.jsonl: schema version, numbers and duplicates are checked, with the line."""

import json
from pathlib import Path

import pytest

from velm_train.core.errors import ArtifactError, DataError
from velm_train.core.records import Prediction
from velm_train.reporting.imports.own_predictions import _problems, read_own_predictions
from velm_train.reporting.predictions import write_predictions


def prediction(image_id: str = "a", **changes) -> Prediction:
    values = {
        "image_id": image_id,
        "category": "nut",
        "group": "seen",
        "gt_defect_type": "cut",
        "anomaly_score": 1.0,
        "p_value": 0.1,
        "pred_label": True,
        "gate_policy": "detector",
        "option_log_likelihoods": {"cut": -0.1, "none of these": -2.0},
        "pred_defect_type": "cut",
        "response": "",
        "region_boxes_xyxy": ((1, 2, 3, 4),),
        "seconds": {"detect": 0.5},
        "hashes": {},
    }
    return Prediction(**{**values, **changes})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "predictions.jsonl"


def changed(path: Path, **changes) -> None:
    """Writes two rows, the second with some values replaced that a writer would refuse."""
    write_predictions([prediction("a"), prediction("b")], path)
    lines = path.read_text().splitlines()
    lines[2] = json.dumps(json.loads(lines[2]) | changes)
    path.write_text("\n".join(lines) + "\n")


def test_rows_are_read_whole(path):
    rows = [
        prediction("a"),
        prediction("b", pred_defect_type=None, option_log_likelihoods={"cut": -3.0, "none of these": -0.1}),
        prediction("c", pred_defect_type=None, option_log_likelihoods={}, response="no idea"),
    ]
    write_predictions(rows, path)
    raw = read_own_predictions(path)
    assert [row.source for row in raw.rows] == rows
    assert [row.answer for row in raw.rows] == ["cut", "none of these", "no idea"]
    assert [row.where for row in raw.rows] == ["line 2", "line 3", "line 4"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"anomaly_score": float("nan")}, "anomaly_score is nan; a finite number"),
        ({"option_log_likelihoods": {"cut": float("-inf")}}, "the log-likelihood of 'cut' is -inf"),
        ({"category": ""}, "category is ''; text is needed"),
        ({"image_id": "a"}, "'a' is in line 2 too"),
    ],
)
def test_a_row_with_a_wrong_value_stops_with_its_line(path, changes, problem):
    changed(path, **changes)
    with pytest.raises(DataError) as caught:
        read_own_predictions(path)
    assert f"line 3: {problem}" in str(caught.value).replace("b: ", "").replace(": a: ", ": ")


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("p_value", None, "p_value is None; a finite number"),
        ("seconds", {"detect": "long"}, "seconds of detect is 'long'"),
        ("anomaly_score", True, "anomaly_score is True; a finite number"),
        ("pred_label", 1, "pred_label is 1; true or false"),
        ("gate_policy", "magic", "gate_policy is 'magic'; allowed: detector"),
        ("group", 3, "group is 3; text is needed"),
    ],
)
def test_values_of_another_kind_are_found(name, value, problem):
    row = prediction()
    object.__setattr__(row, name, value)  # as JSON would give it; tests check types where a row is made
    (found,) = _problems(row)
    assert problem in found


def test_another_schema_version_is_refused(path):
    write_predictions([prediction()], path)
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 99'))
    with pytest.raises(ArtifactError, match="99"):
        read_own_predictions(path)


def test_a_field_of_another_version_is_named_with_its_line(path):
    changed(path, mood="good")
    with pytest.raises(ArtifactError, match=r"line 3 .*unknown fields \['mood'\]"):
        read_own_predictions(path)


def test_an_empty_file_and_a_bare_header_are_refused(path):
    path.write_text("")
    with pytest.raises(DataError, match="is empty"):
        read_own_predictions(path)
    write_predictions([], path)
    with pytest.raises(DataError, match="holds a header but no prediction"):
        read_own_predictions(path)
