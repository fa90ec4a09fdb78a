"""SVG drawings are well-formed, described in words and true to their numbers."""

from xml.etree import ElementTree as ET

import pytest

from velm_train.core.answer_scores import ReliabilityBin
from velm_train.core.scores import RiskPoint, Score
from velm_train.reporting.plots import interval_strip, reliability_plot, risk_coverage_plot, score_histogram


def drawn_histogram(**changes):
    arguments = {
        "title": "Scores of a<b",
        "threshold": 2.5,
        "calibration": [1.0, 2.0],
        "normals": [1.0, 3.0, 1.5],
        "defects": [2.0, 9.0],
    }
    return ET.fromstring(score_histogram(**{**arguments, **changes}))


def test_histogram_bars_of_each_series_add_up_to_the_same_height():
    heights = {}
    for rect in drawn_histogram().iter("rect"):
        heights[rect.get("class")] = heights.get(rect.get("class"), 0) + float(rect.get("height"))
    assert heights["series-normal"] == pytest.approx(heights["series-defect"], rel=0.01)


def test_histogram_says_in_words_what_lies_above_the_threshold():
    words = drawn_histogram().find("desc").text
    assert "1 of 3 normal and 1 of 2 defective" in words


def test_histogram_of_constant_or_absent_scores_is_drawn():
    assert drawn_histogram(calibration=[2.5], normals=[2.5], defects=[2.5]).tag == "svg"
    assert drawn_histogram(calibration=[], normals=[], defects=[]).tag == "svg"


def test_one_outlier_does_not_squeeze_the_rest():
    normals = [1 + i / 200 for i in range(200)]
    picture = drawn_histogram(normals=normals, defects=[3.0] * 100 + [1e6], threshold=2.2, calibration=normals)
    assert len([rect for rect in picture.iter("rect") if rect.get("class") == "series-normal"]) > 5


def test_curve_ends_at_the_right_and_states_the_whole_error():
    points = (RiskPoint(coverage=0.5, risk=0.1, confidence=0.9), RiskPoint(coverage=1.0, risk=0.3, confidence=0.4))
    picture = ET.fromstring(risk_coverage_plot(points, title="t"))
    end = next(picture.iter("polyline")).get("points").split()[-1]
    assert end == "350.0,14.0"
    assert "30.0 % are wrong" in picture.find("desc").text


def reliability_bin(confidence, k, n):
    accuracy = Score(value=k / n, low=k / n / 2, high=1.0, n=n, k=k, interval="clopper-pearson", note="")
    return ReliabilityBin(mean_confidence=confidence, accuracy=accuracy)


def test_reliability_on_the_diagonal_is_drawn_on_the_diagonal():
    before, after = [reliability_bin(0.75, 3, 4)], [reliability_bin(0.5, 1, 2), reliability_bin(1.0, 4, 4)]
    picture = ET.fromstring(reliability_plot(before, after, title="t"))
    diagonal = next(line for line in picture.iter("line") if line.get("class") == "grid")
    (x0, y0), (x1, y1) = ((float(diagonal.get(f"x{i}")), float(diagonal.get(f"y{i}"))) for i in (1, 2))
    dots = list(picture.iter("circle"))
    assert [dot.get("class") for dot in dots] == ["series-before", "series-after", "series-after"]
    for dot in dots:
        x, y = float(dot.get("cx")), float(dot.get("cy"))
        assert (y - y0) / (y1 - y0) == pytest.approx((x - x0) / (x1 - x0), abs=0.01)
    assert picture.find("desc").text == (
        "Of 2 answers at about 50 % 1 are right; of 4 answers at about 100 % 4 are right."
    )


def test_strip_places_value_and_interval_in_percent():
    score = Score(value=0.7, low=0.6, high=0.8, n=5, k=None, interval="bootstrap", note="")
    picture = ET.fromstring(interval_strip(score, label="x & y", reference=0.25))
    assert next(picture.iter("circle")).get("cx") == "70.0"
    lines = {line.get("class"): line.get("x1") for line in picture.iter("line")}
    assert (lines["series-interval"], lines["mark"]) == ("60.0", "25.0")
    assert picture.get("aria-label") == "x & y: 70.0 %"


def test_strip_without_a_figure_says_so():
    picture = ET.fromstring(interval_strip(Score.undefined("none"), label="x"))
    assert picture.get("aria-label") == "x: no figure"
    assert list(picture.iter("circle")) == []
