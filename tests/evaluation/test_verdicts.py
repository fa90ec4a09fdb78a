"""Verdicts, expected time and drift against values computed by hand."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ks_2samp

from velm_train.core.inspection import Inspection
from velm_train.core.records import Detection, GateDecision, ImageRecord, Prediction, Region
from velm_train.evaluation.verdicts import (
    expected_time,
    inspection_of,
    least_p_value,
    options_of,
    summarise,
    unreadable,
    verdict_of,
)
from velm_train.gating.gate import CalibratedGate
from velm_train.gating.guarantees import Scheme
from velm_train.pipeline.looking import GatedImage

SECONDS = {"read": 0.25, "detect": 0.5, "decide": 0.25}


@pytest.fixture
def row(wires, nats):
    """Makes the row of one picture; pictures of another name or score are other files."""

    def make(name: str = "a.png", *, flagged: bool = True, score: float = 2.0, seconds: float = 3.0) -> Inspection:
        options = options_of(nats, category="cable", taxonomy=wires, answers=None) if flagged else ()
        return Inspection(
            path=name,
            sha256=f"{name} {score}",
            category="cable",
            verdict=verdict_of(flagged=flagged, options=options, abstain_below=0.0),
            error="",
            size_hw=(5, 7),
            anomaly_score=score,
            p_value=0.05,
            image_threshold=1.0,
            flagged=flagged,
            gate_policy="detector",
            pred_defect_type="good",
            options=options,
            regions=(),
            role_in_run="",
            seconds=SECONDS | ({"encode": 1.0, "answer": seconds - 1.0} if flagged else {}),
        )

    return make


def gate() -> CalibratedGate:
    scores = [0.1 * number for number in range(1, 20)]
    normals = [
        Detection(
            image_id=str(score),
            detector_hash="d",
            anomaly_score=score,
            anomaly_map=np.full((2, 3), score, np.float32),
            image_size_hw=(5, 7),
            out_of_sample=True,
        )
        for score in scores
    ]
    return CalibratedGate.calibrate(
        normals,
        group_ids=[one.image_id for one in normals],
        category="cable",
        alpha=0.1,
        pixel_alpha=0.1,
        scheme=Scheme(kind="split", num_folds=0, transductive=False),
        allow_transductive=False,
    )


@pytest.mark.parametrize(
    ("changed", "abstain_below", "verdict"),
    [
        ({}, 0.0, "no defect"),
        ({}, 0.5, "no defect"),
        ({}, 0.51, "unsure"),
        ({"cut": 9.0}, 0.0, "defect"),
        ({"none of these": 9.0}, 0.0, "unknown type"),
    ],
)
def test_verdict_follows_the_likeliest_option(changed, abstain_below: float, verdict: str, wires, nats) -> None:
    options = options_of(nats | changed, category="cable", taxonomy=wires, answers=None)
    assert verdict_of(flagged=True, options=options, abstain_below=abstain_below) == verdict


def test_picture_that_the_gate_stopped_is_good_whatever_is_asked_for() -> None:
    assert verdict_of(flagged=False, options=(), abstain_below=1.0) == "good"


def test_unsure_answers_name_no_type_but_keep_their_options(wires, nats) -> None:
    found = inspection_of(
        gated_image(),
        prediction(nats),
        path="a.png",
        crops=[(0, 0, 4, 4)],
        options=options_of(nats | {"cut": 2.0}, category="cable", taxonomy=wires, answers=None),
        abstain_below=0.99,
        role_in_run="test",
    )
    assert (found.verdict, found.pred_defect_type, found.name, found.role_in_run) == ("unsure", None, "cut", "test")
    assert found.regions[0].contour == ((1, 2), (3, 2), (3, 4))
    assert (found.regions[0].crop_xyxy, found.image_threshold) == ((0, 0, 4, 4), 1.0)
    assert Inspection.from_json(found.to_json()) == found


def test_row_of_an_unreadable_picture_holds_nothing_but_its_error() -> None:
    found = unreadable("a.png", category="cable", error="cut short", gate_policy="detector", sha256="")
    assert (found.verdict, found.error, found.name, found.probability) == ("unreadable", "cut short", "", None)
    assert Inspection.from_json(found.to_json()) == found


def test_expected_time_is_gate_plus_share_times_model(row) -> None:
    rows = [row(seconds=3.0), row(seconds=5.0), *[row(flagged=False)] * 6]
    expected = expected_time(rows)
    assert expected is not None
    assert (expected.gate_seconds, expected.model_seconds, expected.pass_share) == (1.0, 4.0, 0.25)
    assert expected.seconds == 2.0
    assert (expected.num_pictures, expected.num_flagged) == (8, 2)


def test_expected_time_without_flagged_or_readable_pictures(row) -> None:
    only_good = expected_time([row(flagged=False)])
    assert only_good is not None
    assert (only_good.model_seconds, only_good.seconds) == (None, 1.0)
    broken = unreadable("a.png", category="cable", error="gone", gate_policy="detector", sha256="")
    assert expected_time([broken]) is None


def test_summary_counts_every_picture_once_and_says_what_was_compared(row) -> None:
    broken = unreadable("c.png", category="cable", error="gone", gate_policy="detector", sha256="")
    known = dataclasses.replace(row(flagged=False), role_in_run="train")
    rows = [*[row(score=9.0 + number) for number in range(8)], known, broken]
    summary = summarise(
        rows, gates={"cable": gate()}, drift_level=0.01, measured=rows[:4], answers=None, abstain_below=0.0
    )
    assert summary.num_pictures == 10
    assert {name: number for name, number in summary.verdicts.items() if number} == {
        "no defect": 8,
        "good": 1,
        "unreadable": 1,
    }
    assert (summary.num_reused, summary.known_to_run) == (6, {"train": 1})
    assert summary.expected_time is not None
    assert summary.expected_time.num_pictures == 4
    (drift,) = summary.drift
    assert (summary.temperature, summary.set_coverage) == (None, None)
    assert (drift.category, drift.num_new, drift.num_calibration, drift.drifted) == ("cable", 8, 19, True)
    assert drift.statistic == pytest.approx(1.0)  # all new scores lie above the largest calibration score, 1.9


def test_time_of_an_earlier_command_stands_in_where_nothing_was_measured_now(row) -> None:
    broken = unreadable("c.png", category="cable", error="gone", gate_policy="detector", sha256="")
    for measured in ((), (broken,)):
        summary = summarise(
            [row(flagged=False), broken],
            gates={"cable": gate()},
            drift_level=0.01,
            measured=measured,
            answers=None,
            abstain_below=0.0,
        )
        assert summary.expected_time is not None
        assert summary.expected_time.num_pictures == 1


def test_same_scores_show_no_drift(row) -> None:
    rows = [row(flagged=False, score=0.1 * number) for number in range(1, 20)]
    summary = summarise(rows, gates={"cable": gate()}, drift_level=0.01, measured=(), answers=None, abstain_below=0.0)
    assert (summary.drift[0].statistic, summary.drift[0].drifted) == (0.0, False)
    assert summary.expected_time is not None  # of the earlier command


def test_files_of_the_same_bytes_are_one_picture_to_the_drift_test(row) -> None:
    rows = [row(flagged=False, score=0.1 * number) for number in range(1, 20)]
    copies = [dataclasses.replace(rows[-1], path=f"copy{number}.png") for number in range(40)]
    known = [dataclasses.replace(row(score=9.0 + number), role_in_run="calibration") for number in range(40)]
    summary = summarise(
        rows + copies + known, gates={"cable": gate()}, drift_level=0.01, measured=(), answers=None, abstain_below=0.0
    )
    assert summary.num_pictures == 99
    (drift,) = summary.drift
    assert (drift.num_new, drift.statistic, drift.drifted) == (19, 0.0, False)


def test_pictures_that_the_run_learned_from_say_nothing_about_drift(row) -> None:
    known = dataclasses.replace(row(), role_in_run="train")
    summary = summarise(
        [known], gates={"cable": gate()}, drift_level=0.01, measured=(), answers=None, abstain_below=0.0
    )
    assert summary.drift == ()


@pytest.mark.parametrize(("num_new", "too_few"), [(1, True), (2, False)])
def test_pictures_that_could_show_drift_are_told_from_too_few(num_new: int, too_few: bool, row) -> None:
    rows = [row(score=9.0 + number) for number in range(num_new)]  # 2 / C(20, 1) = 0.1, 2 / C(21, 2) = 0.0095
    summary = summarise(rows, gates={"cable": gate()}, drift_level=0.01, measured=(), answers=None, abstain_below=0.0)
    (drift,) = summary.drift
    assert (drift.too_few, drift.drifted) == (too_few, not too_few)
    assert drift.p_value == pytest.approx(drift.least_p_value)


@pytest.mark.parametrize(("num_new", "num_calibration"), [(1, 1), (1, 5), (3, 3), (7, 4), (30, 50)])
def test_least_p_value_is_that_of_samples_apart(num_new: int, num_calibration: int) -> None:
    apart = ks_2samp(np.arange(num_new) + 1000.0, np.arange(num_calibration) + 0.0, method="exact").pvalue
    assert least_p_value(num_new, num_calibration) == pytest.approx(apart, rel=1e-6)


def test_least_p_value_of_very_many_is_nothing() -> None:
    assert least_p_value(20_000, 20_000) == 0.0


def gated_image() -> GatedImage:
    record = ImageRecord(
        image_id="new/cable/000000",
        dataset="new",
        category="cable",
        split="test",
        defect_type="unlabelled",
        image_path=Path(__file__),
        gt_mask_paths=(),
        sha256="f" * 64,
        group_id="new/cable/000000",
        size_hw=(5, 7),
    )
    detection = Detection(
        image_id=record.image_id,
        detector_hash="d",
        anomaly_score=2.0,
        anomaly_map=np.zeros((2, 3), np.float32),
        image_size_hw=(5, 7),
        out_of_sample=True,
    )
    decision = GateDecision(
        image_id=record.image_id, p_value=0.05, alpha=0.1, image_threshold=1.0, pred_label=True, policy="detector"
    )
    region = Region(
        image_id=record.image_id,
        box_xyxy=(1, 2, 4, 5),
        contour=np.array([(1, 2), (3, 2), (3, 4)], np.int32),
        area_px=4,
        peak_score=2.0,
        source="detector",
    )
    return GatedImage(
        record=record, role="test", group="new", detection=detection, decision=decision, regions=(region,)
    )


def prediction(nats) -> Prediction:
    return Prediction(
        image_id="new/cable/000000",
        category="cable",
        group="new",
        gt_defect_type=None,
        anomaly_score=2.0,
        p_value=0.05,
        pred_label=True,
        gate_policy="detector",
        option_log_likelihoods=nats,
        pred_defect_type="cut",
        response="",
        region_boxes_xyxy=((1, 2, 4, 5),),
        seconds=SECONDS,
        hashes={},
    )
