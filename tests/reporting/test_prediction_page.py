"""The page about new pictures and the sentences beside it, with figures computed by hand."""

import dataclasses
import re

import numpy as np
import pytest

from velm_train.core.inspection import (
    CategoryDrift,
    ExpectedTime,
    Inspection,
    InspectionSummary,
)
from velm_train.reporting.prediction_page import (
    PredictionContent,
    draw,
    drawn_first,
    render_prediction_page,
    sentences,
    verdict_table,
)

DRIFT = CategoryDrift(
    category="cable",
    statistic=0.5,
    p_value=0.4,
    least_p_value=0.0095,
    num_new=2,
    num_calibration=19,
    level=0.01,
    drifted=False,
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
def good(cut_row: Inspection) -> Inspection:
    return dataclasses.replace(
        cut_row,
        path="<good>.png",
        verdict="good",
        p_value=0.6,
        flagged=False,
        pred_defect_type="good",
        options=(),
        regions=(),
        role_in_run="",
        seconds={"read": 0.01, "detect": 0.02, "decide": 0.0},
    )


@pytest.fixture
def broken(good: Inspection) -> Inspection:
    return dataclasses.replace(
        good,
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


@pytest.fixture
def content(good: Inspection, cut_row: Inspection, broken: Inspection) -> PredictionContent:
    image = np.full((60, 90, 3), 120, np.uint8)
    return PredictionContent(
        title="run",
        subtitle="a run",
        rows=(good, cut_row, broken),
        summary=SUMMARY,
        alphas={"cable": 0.05},
        drawn={"cut.png": draw(image, cut_row)},
        policy="detector",
    )


def test_sentences_say_time_drift_and_what_the_figures_do_not_mean(content: PredictionContent) -> None:
    assert sentences(content) == [
        ("Expected time a picture: t_gate + P(pass) t_model = 0.030 s + 0.500 x 0.750 s = 0.405 s (flagged: 1 of 2)"),
        "No drift found in cable (KS = 0.50, p = 0.4, 2 new pictures against 19 calibration scores).",
        "Probabilities are shares of the model's likelihoods, not calibrated.",
        (
            "The run's own among these files: 1 (1 as train). Detector or model have seen them, so that their p-values "
            "mean nothing."
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
    assert "t_gate = 0.030 s (flagged: 0 of 2; t_model is not known)" in said
    assert "Drift in cable: scores are not like those" in said
    assert "calibrated with the run's temperature, 1.5. Sets of answers, where shown, are to hold the true" in said
    assert "Answers below 0.6 are called unsure." in said
    assert "gate policy is 'off'" in said
    assert "Made by an earlier command and repeated here: 2 of 3." in said


def test_too_few_pictures_to_show_drift_are_not_called_free_of_it(content: PredictionContent) -> None:
    few = dataclasses.replace(DRIFT, num_new=1, num_calibration=5, p_value=0.33, least_p_value=1 / 3)
    said = sentences(dataclasses.replace(content, summary=dataclasses.replace(SUMMARY, drift=(few,))))[1]
    assert said == (
        "Too few pictures of cable to tell whether scores have drifted (KS = 0.50, p = 0.33, 1 new picture against 5 "
        "calibration scores): p is 0.33 at the least with so few, and drift is reported from 0.01 down."
    )


def test_one_picture_is_not_called_pictures(content: PredictionContent) -> None:
    summary = dataclasses.replace(SUMMARY, verdicts=dict.fromkeys(SUMMARY.verdicts, 0) | {"good": 1})
    assert verdict_table(summary).title == "1 picture"
    assert "<h1>1 picture, judged by run</h1>" in render_prediction_page(dataclasses.replace(content, summary=summary))


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
    assert "Unreadable (1)" in page
    ids = re.findall(r'id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)


def test_drawn_picture_has_its_region_outlined_and_its_crop(good: Inspection, cut_row: Inspection) -> None:
    image = np.full((120, 480, 3), 120, np.uint8)
    drawn = draw(image, cut_row)
    assert drawn.outline.shape == (60, 240, 3)
    assert tuple(drawn.outline[10, 10]) == (230, 30, 30)  # the contour's corner (20, 10) at half the size is (5, 10)
    assert drawn.crop is not None
    assert drawn.crop.shape == (50, 50, 3)
    assert draw(image, good).crop is None
    assert np.array_equal(draw(image, good).outline, image[::2, ::2])


def test_what_needs_a_person_is_drawn_first(good: Inspection, broken: Inspection, cut_row: Inspection) -> None:
    unsure = dataclasses.replace(cut_row, verdict="unsure")
    assert drawn_first([good, broken, unsure, cut_row]) == [cut_row, unsure]


def test_table_counts_verdicts_and_types() -> None:
    table = verdict_table(SUMMARY)
    assert [list(column.cells) for column in table.columns] == [
        ["defect", "  cut", "unreadable", "good"],
        ["1", "1", "1", "1"],
    ]
