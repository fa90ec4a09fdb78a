"""Records refuse what later stages could not use, and predictions survive the way through JSON."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from velm_train.core.errors import DataError
from velm_train.core.records import (
    Detection,
    ImageRecord,
    InstructionSample,
    Message,
    Option,
    Prediction,
    Region,
    View,
)

NO_CONTOUR = np.zeros((0, 2), dtype=np.int32)

RECORD = ImageRecord(
    image_id="d/bolt/test/bent/000.png",
    dataset="d",
    category="bolt",
    split="test",
    defect_type="bent",
    image_path=Path("bolt/test/bent/000.png"),
    gt_mask_paths=(),
    sha256="0" * 64,
    group_id="part 1",
    size_hw=(5, 8),
)
DETECTION = Detection(
    image_id="d/bolt/test/bent/000.png",
    detector_hash="x",
    anomaly_score=1.5,
    anomaly_map=np.ones((2, 3), dtype=np.float32),
    image_size_hw=(5, 8),
    out_of_sample=True,
)
REGION = Region(
    image_id="d/bolt/test/bent/000.png",
    box_xyxy=(1, 2, 4, 3),
    contour=NO_CONTOUR,
    area_px=3,
    peak_score=2.0,
    source="detector",
)
VIEW = View(
    kind="crop",
    image_id="d/bolt/test/bent/000.png",
    image_path=Path("000.png"),
    sha256="0" * 64,
    box_xyxy=(0, 0, 8, 5),
    contour=NO_CONTOUR,
)
PREDICTION = Prediction(
    image_id="d/bolt/test/bent/000.png",
    category="bolt",
    group="seen",
    gt_defect_type="bent",
    anomaly_score=1.5,
    p_value=0.04,
    pred_label=True,
    gate_policy="detector",
    option_log_likelihoods={"bent": -0.25, "no defect": -3.5},
    pred_defect_type=None,
    response="",
    region_boxes_xyxy=((1, 2, 4, 3), (0, 0, 8, 5)),
    seconds={"detector": 0.5},
    hashes={"model": "abc"},
)


def test_good_is_the_only_normal_type() -> None:
    assert RECORD.gt_label
    assert not dataclasses.replace(RECORD, defect_type="good").gt_label


@pytest.mark.parametrize("record", [RECORD, DETECTION, REGION, VIEW, PREDICTION])
def test_records_cannot_be_changed(record: object) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.image_id = "other"


@pytest.mark.parametrize(
    ("record", "changes", "expected"),
    [
        (RECORD, {"size_hw": (0, 8)}, r"size_hw is \(0, 8\); both sides must be at least 1 pixel"),
        (RECORD, {"size_hw": (5, -1)}, r"size_hw is \(5, -1\)"),
        (RECORD, {"sha256": "abc"}, "sha256 has 3 characters instead of 64"),
        (DETECTION, {"anomaly_score": float("nan")}, "anomaly_score is nan; it must be finite"),
        (DETECTION, {"anomaly_score": float("inf")}, "anomaly_score is inf"),
        (DETECTION, {"anomaly_map": np.array([[0.0, np.nan]], dtype=np.float32)}, "anomaly_map holds values"),
        (DETECTION, {"anomaly_map": np.array([[-np.inf, 0.0]], dtype=np.float32)}, "anomaly_map holds values"),
        (REGION, {"box_xyxy": (4, 2, 4, 3)}, r"region box \(4, 2, 4, 3\) is empty"),
        (REGION, {"box_xyxy": (1, 3, 4, 2)}, r"region box \(1, 3, 4, 2\) is empty"),
    ],
)
def test_impossible_record_is_refused_by_its_image(record: object, changes: dict, expected: str) -> None:
    with pytest.raises(DataError, match=rf"^d/bolt/test/bent/000\.png: {expected}"):
        dataclasses.replace(record, **changes)


def sample(*, num_views: int, texts: list[str]) -> InstructionSample:
    return InstructionSample(
        sample_id="s#0",
        image_id=RECORD.image_id,
        category="bolt",
        task="name_type",
        views=(VIEW,) * num_views,
        messages=tuple(Message(role="user", text=text) for text in texts),
        target="bent",
        options=(Option(answer="bent", defect_type="bent"),),
        provenance={},
    )


@pytest.mark.parametrize(
    ("num_views", "texts"), [(0, ["why?"]), (1, ["<image> what?"]), (3, ["<image><image>", "and <image> what?"])]
)
def test_every_view_has_its_placeholder(num_views: int, texts: list[str]) -> None:
    assert len(sample(num_views=num_views, texts=texts).views) == num_views


@pytest.mark.parametrize(
    ("num_views", "texts"), [(1, ["what?"]), (0, ["<image>"]), (1, ["<image>", "<image>"]), (2, [])]
)
def test_views_without_placeholder_and_the_reverse_are_refused(num_views: int, texts: list[str]) -> None:
    with pytest.raises(DataError, match=rf"s#0: {num_views} views but \d <image> placeholders"):
        sample(num_views=num_views, texts=texts)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gt_defect_type": None, "pred_defect_type": "bent", "response": "ä\n"},
        {"pred_label": False, "option_log_likelihoods": {}, "region_boxes_xyxy": ()},
    ],
)
def test_prediction_survives_the_way_through_json(changes: dict) -> None:
    prediction = dataclasses.replace(PREDICTION, **changes)
    again = Prediction.from_json(json.loads(json.dumps(prediction.to_json())))
    assert again == prediction
    assert type(again.region_boxes_xyxy) is tuple


def test_prediction_row_of_another_shape_is_refused_by_its_fields() -> None:
    row = PREDICTION.to_json()
    row["p_val"] = row.pop("p_value")
    with pytest.raises(DataError, match=r"missing fields \['p_value'\], unknown fields \['p_val'\]"):
        Prediction.from_json(row)
