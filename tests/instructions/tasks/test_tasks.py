"""What each task asks and which answer it wants."""

import dataclasses

import numpy as np
import pytest

from velm_train.core.errors import ConfigError
from velm_train.core.records import Option
from velm_train.instructions.answers import CELLS, LocatedAnswer, parse, parse_located
from velm_train.instructions.finding import ImpossibleSampleError
from velm_train.instructions.options import closed_list
from velm_train.instructions.tasks import locate_then_name as locate_module
from velm_train.instructions.tasks import name_type as name_module
from velm_train.instructions.tasks import same_or_different as same_module
from velm_train.instructions.tasks.locate_then_name import cell_of, locate_then_name
from velm_train.instructions.tasks.name_type import name_type
from velm_train.instructions.tasks.registry import TASKS, require_views
from velm_train.instructions.tasks.request import TaskRequest
from velm_train.instructions.tasks.same_or_different import same_or_different
from velm_train.instructions.views import views_of
from velm_train.instructions.wording import Wording


@pytest.fixture
def make_request(make_finding, category):
    def make(kinds, answer="crack", *, paraphrase=0.0, with_descriptions=False, seed=0, **finding_fields):
        finding = make_finding(answer, **finding_fields)
        return TaskRequest(
            record=finding.record,
            region=finding.region,
            region_index=2,
            views=views_of(finding, kinds),
            category=category,
            answer_defect_type=answer,
            options=closed_list(category),
            wording=Wording(
                paraphrase_probability=paraphrase, synonym_probability=0.0, with_descriptions=with_descriptions
            ),
            rng=np.random.default_rng(seed),
            repetition=1,
            provenance={"gate_policy": "detector"},
        )

    return make


def test_name_type_asks_with_the_list_and_wants_the_display_name(make_request):
    sample = name_type(make_request(("crop",), "color"))
    assert sample.sample_id == "textures/brick/test/crack/000.png#2/name_type/1"
    assert [message.role for message in sample.messages] == ["user"]
    assert sample.messages[0].text == (
        "<image>\nOptions: crack, hole, color spot, scratch, no defect, none of these.\nDefect:"
    )
    assert sample.target == "color spot"
    assert sample.provenance == {"gate_policy": "detector", "answer_defect_type": "color"}


@pytest.mark.parametrize(("answer", "target"), [("good", "no defect"), ("dent", "none of these"), (None, "")])
def test_name_type_answers_false_alarms_unlisted_types_and_unknown_truth(make_request, answer, target):
    assert name_type(make_request(("query",), answer)).target == target


def test_descriptions_stand_before_the_options(make_request):
    text = name_type(make_request(("reference", "query"), with_descriptions=True)).messages[0].text
    assert text.startswith("Normal: <image>\nPart: <image>\nGood brick: an even red face\ncrack: a thin dark line\n")
    assert text.endswith("Options: crack, hole, color spot, scratch, no defect, none of these.\nDefect:")


def test_the_shown_name_is_the_answer(make_request):
    request = make_request(("crop",), "crack")
    shown = (Option(answer="fissure", defect_type="crack"), *request.options[1:])
    sample = name_type(dataclasses.replace(request, options=shown))
    assert sample.target == "fissure"
    assert "fissure" in sample.messages[0].text
    assert "crack" not in sample.messages[0].text


@pytest.mark.parametrize(("answer", "target"), [("good", "same"), ("crack", "different"), ("dent", "different")])
def test_same_or_different_calls_a_false_alarm_the_same(make_request, answer, target):
    sample = same_or_different(make_request(("reference", "crop"), answer))
    assert sample.messages[0].text in {
        "Normal: <image>\nDetail: <image>\nsame or different:",
        "Normal: <image>\nDetail: <image>\ndifferent or same:",
    }
    assert sample.target == target
    assert (parse(sample.target, sample.options).defect_type == "good") == (answer == "good")


def test_same_or_different_shows_its_two_answers_in_both_orders(make_request):
    texts = {same_or_different(make_request(("reference", "crop"), seed=seed)).messages[0].text for seed in range(20)}
    assert len(texts) == 2


@pytest.mark.parametrize(
    ("box_xyxy", "cell"),
    [
        ((0, 0, 10, 10), "top left"),
        ((80, 10, 100, 20), "top right"),
        ((50, 35, 70, 55), "center"),
        ((0, 40, 20, 50), "left"),
        ((110, 80, 120, 90), "bottom right"),
        ((40, 80, 80, 90), "bottom"),
        ((30, 0, 50, 10), "top"),  # centre exactly on the first third of 120
        ((29, 0, 50, 10), "top left"),
        ((0, 0, 120, 90), "center"),
    ],
)
def test_cell_is_the_ninth_that_holds_the_centre(box_xyxy, cell):
    assert cell_of(box_xyxy, size_hw=(90, 120)) == cell


def test_every_cell_is_reached():
    boxes = [(x, y, x + 2, y + 2) for y in (10, 40, 80) for x in (10, 60, 110)]
    assert tuple(cell_of(box_xyxy, size_hw=(90, 120)) for box_xyxy in boxes) == CELLS


def test_locate_then_name_answers_place_and_type(make_request, category):
    sample = locate_then_name(make_request(("query",), "color"))
    assert sample.target == "top right, color spot"
    assert sample.options == ()
    assert parse_located(sample.target, closed_list(category)) == LocatedAnswer(
        cell="top right", option=Option(answer="color spot", defect_type="color")
    )


def test_locate_then_name_answers_a_false_alarm_without_a_place(make_request):
    assert locate_then_name(make_request(("query_contour",), "good")).target == "no defect"


@pytest.mark.parametrize("fields", [{"with_region": False}, {"region_source": "whole_image"}])
@pytest.mark.parametrize("answer", ["crack", "good", None])
def test_locate_then_name_needs_a_place_whatever_the_truth(make_request, fields, answer):
    with pytest.raises(ImpossibleSampleError, match="smaller than the image"):
        locate_then_name(make_request(("query",), answer, **fields))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("answer", ["good", "dent", "hole", None])
def test_no_task_lets_the_truth_into_the_prompt(make_request, task, answer):
    def asked(truth):
        sample = TASKS[task].build(make_request(("reference", "query", "crop"), truth, paraphrase=0.5, seed=4))
        return sample.messages, sample.options, sample.sample_id

    assert asked(answer) == asked("crack")


@pytest.mark.parametrize("module", [name_module, same_module, locate_module])
def test_templates_differ_and_hold_the_views(module):
    assert len(set(module.TEMPLATES)) == len(module.TEMPLATES) >= 3
    assert all(template.startswith("{views}") for template in module.TEMPLATES)


@pytest.mark.parametrize("task", TASKS)
def test_every_template_makes_a_sample(make_request, task):
    texts = {
        TASKS[task].build(make_request(("reference", "query"), paraphrase=1.0, seed=seed)).messages[0].text
        for seed in range(40)
    }
    assert len(texts) >= 2
    assert not any("{" in text or "}" in text for text in texts)


@pytest.mark.parametrize(
    ("task", "kinds", "message"),
    [
        ("name_typ", ("crop",), "name_type"),
        ("name_type", ("reference",), "add one of: query, query_contour, crop"),
        ("name_type", ("crop", "crop"), "once"),
        ("same_or_different", ("crop",), "add one of: reference"),
        ("locate_then_name", ("crop",), "add one of: query, query_contour"),
    ],
)
def test_views_that_do_not_suit_the_task_are_refused(task, kinds, message):
    with pytest.raises(ConfigError, match=message):
        require_views(task, kinds)
