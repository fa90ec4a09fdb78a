"""The calibrated gate: policies, refusals, and the round trip through JSON."""

import json

import numpy as np
import pytest

from velm_train.core.errors import ArtifactError, GateError
from velm_train.core.records import Detection
from velm_train.gating.gate import CalibratedGate
from velm_train.gating.guarantees import Scheme, guarantee

LEAVE_ONE_OUT = Scheme(kind="leave_one_out", num_folds=0, transductive=False)
TRANSDUCTIVE = Scheme(kind="split", num_folds=0, transductive=True)


def detection(score: float, *, name: str = "x", detector: str = "d" * 64, out_of_sample: bool = True) -> Detection:
    return Detection(
        image_id=f"set/bolt/{name}",
        detector_hash=detector,
        anomaly_score=score,
        anomaly_map=np.linspace(0, score, 12, dtype=np.float32).reshape(3, 4),
        image_size_hw=(30, 40),
        out_of_sample=out_of_sample,
    )


def normals(n: int) -> list[Detection]:
    return [detection(float(index + 1), name=f"good/{index}") for index in range(n)]


def calibrate(detections: list[Detection], **changes) -> CalibratedGate:
    arguments = {
        "group_ids": [one.image_id for one in detections],
        "category": "bolt",
        "alpha": 0.1,
        "pixel_alpha": 0.05,
        "scheme": LEAVE_ONE_OUT,
        "allow_transductive": False,
    }
    return CalibratedGate.calibrate(detections, **{**arguments, **changes})


def test_detector_policy_flags_scores_above_the_threshold_only():
    gate = calibrate(normals(19))
    assert gate.policy == "detector"
    assert gate.image_threshold == 18.0
    at_threshold = gate.decide(detection(18.0), gt_label=True)
    above = gate.decide(detection(18.5), gt_label=None)
    assert (at_threshold.pred_label, at_threshold.p_value) == (False, 3 / 20)
    assert (above.pred_label, above.p_value) == (True, 2 / 20)
    assert above.image_id == "set/bolt/x"
    assert (above.alpha, above.image_threshold, above.policy) == (0.1, 18.0, "detector")


def test_oracle_policy_follows_the_ground_truth_and_still_records_p():
    gate = calibrate(normals(19)).with_policy("oracle")
    missed = gate.decide(detection(0.0), gt_label=True)
    assert (missed.pred_label, missed.p_value, missed.policy) == (True, 1.0, "oracle")
    assert not gate.decide(detection(99.0), gt_label=False).pred_label
    with pytest.raises(GateError, match="no label"):
        gate.decide(detection(99.0), gt_label=None)


def test_off_policy_flags_everything():
    decision = calibrate(normals(19)).with_policy("off").decide(detection(0.0), gt_label=False)
    assert (decision.pred_label, decision.p_value, decision.policy) == (True, 1.0, "off")


def test_in_sample_detections_are_refused_everywhere():
    in_sample = detection(5.0, name="seen", out_of_sample=False)
    with pytest.raises(GateError, match=r"set/bolt/seen.*in-sample"):
        calibrate([*normals(19), in_sample])
    with pytest.raises(GateError, match="in-sample"):
        calibrate(normals(19)).decide(in_sample, gt_label=None)


def test_detections_of_another_detector_are_refused():
    other = detection(5.0, name="other", detector="e" * 64)
    with pytest.raises(GateError, match="2 detectors"):
        calibrate([*normals(19), other])
    with pytest.raises(GateError, match="belongs to detector dddddddddddd"):
        calibrate(normals(19)).decide(other, gt_label=None)


def test_repeated_images_and_no_images_are_refused():
    with pytest.raises(GateError, match="20 calibration detections of only 19 images"):
        calibrate([*normals(19), normals(1)[0]])
    with pytest.raises(GateError, match="no normal image"):
        calibrate([])


def test_unreachable_alpha_is_refused_with_the_floor():
    with pytest.raises(GateError, match=r"n=8 .*0\.1111"):
        calibrate(normals(8))


def test_transductive_detector_needs_leave_and_loses_the_guarantee():
    with pytest.raises(GateError, match="allow_transductive=true"):
        calibrate(normals(19), scheme=TRANSDUCTIVE)
    gate = calibrate(normals(19), scheme=TRANSDUCTIVE, allow_transductive=True)
    assert gate.guarantee is None


def test_gate_states_the_guarantee_of_its_calibration():
    gate = calibrate(normals(19))
    assert gate.guarantee == guarantee(19, 0.1, scheme=LEAVE_ONE_OUT, num_images=19)
    assert gate.num_calibration == 19


def test_json_round_trip_gives_an_equal_gate():
    scores = np.random.default_rng(1).standard_normal(37)
    gate = calibrate([detection(float(s), name=str(i)) for i, s in enumerate(scores)]).with_policy("oracle")
    assert CalibratedGate.from_json(json.loads(json.dumps(gate.to_json()))) == gate


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("image_threshold", 17.0, "do not follow"),
        ("num_calibration", 7, "do not follow"),
        ("schema_version", 99, "schema version 99"),
        ("policy", "maybe", "unknown"),
        ("surprise", 1, r"unknown fields \['surprise'\]"),
    ],
)
def test_altered_gate_files_are_refused(field, value, message):
    row = calibrate(normals(19)).to_json()
    row[field] = value
    with pytest.raises(ArtifactError, match=message):
        CalibratedGate.from_json(row)


def test_missing_field_is_named():
    row = calibrate(normals(19)).to_json()
    del row["alpha"]
    with pytest.raises(ArtifactError, match=r"missing fields \['alpha'\]"):
        CalibratedGate.from_json(row)


def test_views_of_one_part_count_once_by_the_most_anomalous():
    """Scores 1..20 in 10 pairs: the highest of each pair is 2, 4, ..., 20, and alpha 0.2 takes the second of them."""
    gate = calibrate(normals(20), group_ids=[f"part/{index // 2}" for index in range(20)], alpha=0.2)
    assert gate.num_calibration == 10
    assert gate.calibration_array().tolist() == [float(score) for score in range(2, 21, 2)]
    assert gate.image_threshold == 18.0
    assert gate.decide(detection(17.0), gt_label=None).p_value == 3 / 11
    assert "10 normal parts in 20 images" in gate.guarantee.text
    assert CalibratedGate.from_json(json.loads(json.dumps(gate.to_json()))) == gate


def test_views_of_few_parts_do_not_reach_what_as_many_parts_would():
    with pytest.raises(GateError, match=r"n=5 calibration images.*views of one part count as one"):
        calibrate(normals(20), group_ids=[f"part/{index // 4}" for index in range(20)])


def test_parts_and_scores_must_match():
    with pytest.raises(GateError, match="19 scores but 18 part numbers"):
        calibrate(normals(19), group_ids=[str(index) for index in range(18)])


def test_identical_scores_flag_nothing_like_them_and_everything_above():
    gate = calibrate([detection(3.0, name=str(index)) for index in range(19)])
    same, above = gate.decide(detection(3.0), gt_label=None), gate.decide(detection(3.1), gt_label=None)
    assert (same.pred_label, same.p_value) == (False, 1.0)
    assert (above.pred_label, above.p_value) == (True, 1 / 20)


def test_one_normal_reaches_a_half_and_no_less():
    assert calibrate(normals(1), alpha=0.5, pixel_alpha=0.1).image_threshold == 1.0
    with pytest.raises(GateError, match=r"n=1 .*0\.5.*at least 9"):
        calibrate(normals(1))
