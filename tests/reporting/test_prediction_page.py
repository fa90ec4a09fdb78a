"""The page about new pictures and the sentences beside it, with figures computed by hand."""

import dataclasses
import re

import numpy as np
import pytest

from velm_train.core.inspection import (
    CategoryDrift,
    ExpectedTime,
    InspectedRegion,
    Inspection,
    InspectionSummary,
    NamedOption,
)
from velm_train.reporting.prediction_page import (
    PredictionContent,
    draw,
    drawn_first,
    render_prediction_page,
    sentences,
    verdict_table,
)

GOOD = Inspection(
    path="<good>.png",
    sha256="a" * 64,
    category="cable",
    verdict="good",
    error="",
    size_hw=(60, 90),
    anomaly_score=0.5,
    p_value=0.6,
    image_threshold=1.5,
    flagged=False,
    gate_policy="detector",
    pred_defect_type="good",
    options=(),
    regions=(),
    role_in_run="",
    seconds={"read": 0.01, "detect": 0.02, "decide": 0.0},
)
CUT = dataclasses.replace(
    GOOD,
    path="cut.png",
    verdict="defect",
    p_value=0.05,
    flagged=True,
    pred_defect_type="cut",
    options=(NamedOption(answer="cut", defect_type="cut", log_likelihood=0.0, probability=0.875, in_set=True),),
    regions=(
        InspectedRegion(
            box_xyxy=(10, 20, 40, 50),
            crop_xyxy=(0, 10, 50, 60),
            contour=((10, 20), (39, 20), (39, 49), (10, 49)),
            area_px=900,
            peak_score=3.0,
            source="detector",
        ),
    ),
    role_in_run="train",
    seconds={"read": 0.01, "detect": 0.02, "decide": 0.0, "encode": 0.25, "answer": 0.5},
)
BROKEN = dataclasses.replace(
    GOOD,
    path="broken.png",
    sha256="",
    verdict="unreadable",
    error="image broken.png cannot be read",
    size_hw=None,
    anomaly_score=None,
    p_value=None,
    image_threshold=None,
    flagged=None,
    pred_defect_type=None,
    seconds={},
)
DRIFT = CategoryDrift(
    category="cable", statistic=0.5, p_value=0.4, num_new=2, num_calibration=19, level=0.01, drifted=False
)
SUMMARY = InspectionSummary(
    verdicts={"good": 1, "no defect": 0, "defect": 1, "unknown type": 0, "unsure": 0, "unreadable": 1},
    types={"cut": 1},
    known_to_run={"train": 1, "test": 4},
    num_reused=0,
    expected_time=ExpectedTime(gate_seconds=0.03, model_seconds=0.75, pass_share=0.5, num_pictures=2, num_flagged=1),
    drift=(DRIFT,),
    temperature=None,
    set_coverage=None,
    abstain_below=0.0,
)


@pytest.fixture
def content() -> PredictionContent:
    image = np.full((60, 90, 3), 120, np.uint8)
    return PredictionContent(
        title="run",
        subtitle="a run",
        rows=(GOOD, CUT, BROKEN),
        summary=SUMMARY,
        alphas={"cable": 0.05},
        drawn={"cut.png": draw(image, CUT)},
        policy="detector",
    )


def test_sentences_say_time_drift_and_what_the_figures_do_not_mean(content: PredictionContent) -> None:
    assert sentences(content) == [
        (
            "Expected time a picture: t_gate + P(pass) t_model = 0.030 s + 0.500 x 0.750 s = 0.405 s "
            "(1 of 2 pictures flagged)"
        ),
        "No drift found in cable (KS = 0.50, p = 0.4, 2 new pictures against 19 calibration scores).",
        "Probabilities are shares of the model's likelihoods, not calibrated.",
        (
            "1 of these files are the run's own (1 as train): detector or model have seen them, so their p-values mean "
            "nothing."
        ),
    ]


def test_other_circumstances_are_said_as_well(content: PredictionContent) -> None:
    summary = dataclasses.replace(
        SUMMARY,
        expected_time=ExpectedTime(
            gate_seconds=0.03, model_seconds=None, pass_share=0.0, num_pictures=2, num_flagged=0
        ),
        drift=(dataclasses.replace(DRIFT, drifted=True),),
        known_to_run={},
        num_reused=2,
        temperature=1.5,
        set_coverage=0.9,
        abstain_below=0.6,
    )
    said = " ".join(sentences(dataclasses.replace(content, summary=summary, policy="off")))
    assert "t_gate = 0.030 s (0 of 2 pictures flagged: t_model is not known)" in said
    assert "Drift in cable: scores are not like those" in said
    assert "calibrated with the run's temperature, 1.5. Sets of answers, where shown, are to hold the true" in said
    assert "Answers below 0.6 are called unsure." in said
    assert "gate policy is 'off'" in said
    assert "2 rows were made by an earlier command" in said


def test_nothing_readable_leaves_no_time(content: PredictionContent) -> None:
    summary = dataclasses.replace(SUMMARY, expected_time=None, drift=(), known_to_run={})
    assert len(sentences(dataclasses.replace(content, summary=summary))) == 1


def test_page_is_whole_and_escapes_what_comes_from_outside(content: PredictionContent) -> None:
    page = render_prediction_page(content)
    assert re.findall(r"""(?:src|href)\s*=\s*["'](?!data:|#)([^"']*)""", page) == []
    assert "<script" not in page
    assert "&lt;good&gt;.png" in page
    assert "<good>" not in page
    assert page.count("data:image/jpeg") == 2  # outline and crop of the one drawn picture
    for text in ("cut.png", "0.875", "in set", "train picture of the run", "image broken.png cannot be read", "750 ms"):
        assert text in page, text
    ids = re.findall(r'id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)


def test_drawn_picture_has_its_region_outlined_and_its_crop() -> None:
    image = np.full((120, 480, 3), 120, np.uint8)
    drawn = draw(image, CUT)
    assert drawn.outline.shape == (60, 240, 3)
    assert tuple(drawn.outline[10, 10]) == (230, 30, 30)  # the contour's corner (20, 10) at half the size is (5, 10)
    assert drawn.crop is not None
    assert drawn.crop.shape == (50, 50, 3)
    assert draw(image, GOOD).crop is None
    assert np.array_equal(draw(image, GOOD).outline, image[::2, ::2])


def test_what_needs_a_person_is_drawn_first() -> None:
    unsure = dataclasses.replace(CUT, verdict="unsure")
    assert drawn_first([GOOD, BROKEN, unsure, CUT]) == [CUT, unsure]


def test_table_counts_verdicts_and_types() -> None:
    table = verdict_table(SUMMARY)
    assert [list(column.cells) for column in table.columns] == [
        ["defect", "  cut", "unreadable", "good"],
        ["1", "1", "1", "1"],
    ]
