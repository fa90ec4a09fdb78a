"""The lines that prompts are made of."""

import numpy as np
import pytest

from velm_train.core.errors import ConfigError
from velm_train.instructions.options import closed_list
from velm_train.instructions.views import views_of
from velm_train.instructions.wording import Wording, description_lines, draw_template, option_list, view_lines


def test_one_view_has_no_label_and_several_have(make_finding):
    finding = make_finding()
    assert view_lines(views_of(finding, ("crop",))) == "<image>\n"
    assert view_lines(views_of(finding, ("reference", "query", "query_contour", "crop"))) == (
        "Normal: <image>\nPart: <image>\nMarked: <image>\nDetail: <image>\n"
    )


def test_descriptions_follow_the_options_order_and_leave_out_empty_ones(category):
    options = closed_list(category)[::-1]
    assert description_lines(category, options) == (
        "Good brick: an even red face\ncolor spot: an area of another color\n"
        "hole: a round gap\ncrack: a thin dark line\n"
    )


def test_option_list_is_separated_by_commas(category):
    assert option_list(closed_list(category)) == "crack, hole, color spot, scratch, no defect, none of these"


def test_the_first_template_is_used_unless_a_paraphrase_is_drawn():
    templates = ("first", "second", "third")
    rng = np.random.default_rng(0)
    assert {draw_template(templates, paraphrase_probability=0.0, rng=rng) for _ in range(20)} == {"first"}
    assert {draw_template(templates, paraphrase_probability=1.0, rng=rng) for _ in range(40)} == {"second", "third"}


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_probability_outside_zero_and_one_is_refused(value):
    with pytest.raises(ConfigError, match="paraphrase_probability is"):
        Wording(paraphrase_probability=value, synonym_probability=0.0, with_descriptions=False)
