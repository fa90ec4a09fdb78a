"""Orders are averaged by option identity; the surest region names the image."""

import numpy as np
import pytest

from velm_train.core.errors import DataError
from velm_train.core.records import Option
from velm_train.evaluation.scoring import OptionScore, RegionScores, average_orders, region_naming_the_image


def region(crack, good, peak=1.0):
    return RegionScores(
        options=(
            OptionScore(answer="crack", defect_type="crack", log_likelihood=crack),
            OptionScore(answer="no defect", defect_type="good", log_likelihood=good),
        ),
        peak_score=peak,
    )


def test_orders_are_averaged_by_what_options_stand_for(options):
    orders = [options(("crack", "hole", "good", None)), options((None, "good", "crack", "hole"))]
    scores = average_orders(orders, [(-1.0, -2.0, -3.0, -4.0), (-5.0, -6.0, -8.0, -7.0)])
    assert {score.answer: score.log_likelihood for score in scores} == {
        "fine crack": (-1.0 - 8.0) / 2,
        "hole": (-2.0 - 7.0) / 2,
        "no defect": (-3.0 - 6.0) / 2,
        "none of these": (-4.0 - 5.0) / 2,
    }
    assert [score.answer for score in scores] == ["fine crack", "hole", "no defect", "none of these"]
    assert [score.defect_type for score in scores] == ["crack", "hole", "good", None]


def test_special_options_keep_their_names_whatever_a_template_calls_them():
    scores = average_orders([[Option(answer="all fine", defect_type="good")]], [[-1.0]])
    assert scores[0].answer == "no defect"


def test_orders_with_other_options_are_refused(options):
    with pytest.raises(DataError, match="option orders differ"):
        average_orders([options(("crack", "good")), options(("hole", "good"))], [(0.0, 0.0), (0.0, 0.0)])
    with pytest.raises(DataError, match="no question"):
        average_orders([], [])


def test_ties_go_to_the_first_answer_by_name(options):
    for types in (("hole", "crack"), ("crack", "hole")):
        scores = RegionScores(options=average_orders([options(types)], [(-1.0, -1.0)]), peak_score=0.0)
        assert scores.best.defect_type == "crack"


def test_no_defect_probability_is_the_softmax_share():
    assert region(-1.0, -2.0).no_defect_probability == pytest.approx(np.exp(-2) / (np.exp(-1) + np.exp(-2)))
    only = RegionScores(options=region(-1.0, -2.0).options[:1], peak_score=0.0)
    assert only.no_defect_probability == 0.0


def test_region_least_likely_to_be_fine_names_the_image():
    false_alarm, defect = region(-3.0, -1.0, peak=9.0), region(-1.0, -3.0, peak=2.0)
    assert region_naming_the_image([false_alarm, defect]) is defect
    assert region_naming_the_image([defect, false_alarm]) is defect


def test_equal_regions_are_decided_by_the_peak():
    low, high = region(-1.0, -2.0, peak=1.0), region(-1.0, -2.0, peak=2.0)
    assert region_naming_the_image([low, high]) is high
