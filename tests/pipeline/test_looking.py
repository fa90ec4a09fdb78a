"""Who goes on to the language model under each policy, and where it looks."""

import dataclasses
import json
from collections.abc import Callable

import pytest

from velm_train.core.errors import GateError
from velm_train.gating.gate import CalibratedGate
from velm_train.pipeline.looking import GatedImage, calibrate_gates, look

SPOT_XYXY = (60, 12, 78, 30)
DEFECT, NORMAL = "test/spot/001.png", "test/good/000.png"

Look = Callable[..., GatedImage]


@pytest.fixture
def look_at(parts, detections, gates, region_settings) -> Look:
    def run(name: str, *, policy: str, with_mask: bool = True) -> GatedImage:
        record = parts.one("felt", name)
        if not with_mask:
            record = dataclasses.replace(record, gt_mask_paths=())
        return look(
            record,
            detections["felt"].detections[record.image_id],
            gates["felt"],
            role="test",
            group="seen",
            policy=policy,
            settings=region_settings,
        )

    return run


def test_detector_decides_by_the_score_and_gives_the_regions(look_at) -> None:
    defect, normal = look_at(DEFECT, policy="detector"), look_at(NORMAL, policy="detector")
    assert (defect.decision.pred_label, normal.decision.pred_label) == (True, False)
    assert {region.source for region in defect.regions} == {"detector"}
    x0, y0, x1, y1 = defect.regions[0].box_xyxy
    assert x0 < 69 < x1  # the middle of the spot
    assert y0 < 21 < y1
    assert (x1 - x0) * (y1 - y0) < 72 * 96 / 2
    assert normal.regions == ()


def test_detector_never_sees_the_mask(look_at) -> None:
    with_mask, without = (look_at(DEFECT, policy="detector", with_mask=known) for known in (True, False))
    assert [region.box_xyxy for region in with_mask.regions] == [region.box_xyxy for region in without.regions]


def test_oracle_decides_by_the_truth_and_takes_regions_from_the_mask(look_at) -> None:
    defect, normal = look_at(DEFECT, policy="oracle"), look_at(NORMAL, policy="oracle")
    assert (defect.decision.pred_label, normal.decision.pred_label) == (True, False)
    (region,) = defect.regions
    assert (region.box_xyxy, region.source) == (SPOT_XYXY, "oracle")
    assert normal.regions == ()


def test_oracle_asks_the_detector_where_a_defect_has_no_mask(look_at) -> None:
    outlined_by_nobody = look_at(DEFECT, policy="oracle", with_mask=False)
    by_detector = look_at(DEFECT, policy="detector")
    assert outlined_by_nobody.decision.pred_label
    assert [r.box_xyxy for r in outlined_by_nobody.regions] == [r.box_xyxy for r in by_detector.regions]
    assert {region.source for region in outlined_by_nobody.regions} == {"detector"}


def test_gate_that_is_off_lets_everything_through_with_the_detectors_regions(look_at) -> None:
    defect, normal = look_at(DEFECT, policy="off"), look_at(NORMAL, policy="off")
    assert (defect.decision.pred_label, normal.decision.pred_label) == (True, True)
    assert len(normal.regions) >= 1
    assert "oracle" not in {region.source for region in (*defect.regions, *normal.regions)}


@pytest.mark.parametrize("name", [DEFECT, NORMAL])
def test_every_decision_names_its_policy_and_keeps_the_p_value(look_at, name) -> None:
    decisions = {policy: look_at(name, policy=policy).decision for policy in ("detector", "oracle", "off")}
    assert {policy: decision.policy for policy, decision in decisions.items()} == {name: name for name in decisions}
    assert len({(decision.p_value, decision.image_threshold) for decision in decisions.values()}) == 1


def single_parts(detections) -> dict[str, str]:
    return {image_id: image_id for found in detections.values() for image_id in found.calibration_ids}


def test_gates_are_kept_as_one_artefact_for_each_alpha(detections, store, progress) -> None:
    def calibrate(alpha: float) -> dict[str, CalibratedGate]:
        return calibrate_gates(
            store=store,
            detections=detections,
            group_ids=single_parts(detections),
            num_folds=0,
            alpha=alpha,
            pixel_alpha=0.01,
            allow_transductive=False,
        )

    gates = calibrate(0.2)
    (folder,) = store.root.glob("gates/*")
    kept = json.loads((folder / "gates.json").read_text())
    assert {name: CalibratedGate.from_json(row) for name, row in kept.items()} == gates
    assert calibrate(0.2) == gates
    assert len(list(store.root.glob("gates/*"))) == 1
    looser = calibrate(0.5)
    assert len(list(store.root.glob("gates/*"))) == 2
    assert looser["felt"].image_threshold < gates["felt"].image_threshold
    assert looser["felt"].pixel_threshold == gates["felt"].pixel_threshold


def test_views_of_one_part_calibrate_as_one(detections, store) -> None:
    pairs = {image_id: f"{image_id[:-5]}{int(image_id[-5]) // 2}" for image_id in single_parts(detections)}
    settings = {"num_folds": 0, "alpha": 0.34, "pixel_alpha": 0.01, "allow_transductive": False}
    gate = calibrate_gates(store=store, detections=detections, group_ids=pairs, **settings)["felt"]
    scores = [detections["felt"].detections[image_id].anomaly_score for image_id in detections["felt"].calibration_ids]
    assert (gate.num_calibration, gate.calibration_parts) == (2, (0, 0, 1, 1))
    assert gate.image_threshold == max(scores)
    with pytest.raises(GateError, match=r"n=2 calibration images"):
        calibrate_gates(store=store, detections=detections, group_ids=pairs, **{**settings, "alpha": 0.3})
