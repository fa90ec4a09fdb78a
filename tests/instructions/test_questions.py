"""Inference prompts know nothing of the truth."""

import dataclasses
from pathlib import Path

import pytest

from velm_train.core.errors import ConfigError
from velm_train.instructions.options import closed_list
from velm_train.instructions.questions import build_questions


def ask(finding, category, *, views=("crop",), num_option_orders=3, seed=0):
    return build_questions(
        finding,
        categories={"brick": category},
        views=views,
        num_option_orders=num_option_orders,
        with_descriptions=False,
        seed=seed,
    )


def prompts(result):
    return [(sample.sample_id, sample.messages, sample.options) for sample in result.kept]


@pytest.mark.parametrize("answer", ["crack", "hole", "good", "dent", None])
def test_the_truth_has_no_part_in_the_prompt(make_finding, category, answer):
    assert prompts(ask(make_finding(answer), category)) == prompts(ask(make_finding("scratch"), category))


def test_a_path_that_names_the_truth_has_no_part_in_the_prompt(make_finding, category):
    finding = make_finding()
    record = dataclasses.replace(
        finding.record, image_id="textures/brick/test/hole/9.png", defect_type="hole", image_path=Path("hole/9.png")
    )
    region = dataclasses.replace(finding.region, image_id=record.image_id)
    moved = ask(dataclasses.replace(finding, record=record, region=region), category)
    assert [order[1:] for order in prompts(moved)] == [order[1:] for order in prompts(ask(finding, category))]


def test_questions_hold_the_whole_list_in_different_orders(make_finding, category):
    samples = ask(make_finding(), category, num_option_orders=6).kept
    assert all(set(sample.options) == set(closed_list(category)) for sample in samples)
    assert len({sample.options for sample in samples}) == 6
    assert [sample.sample_id.rsplit("/", 1)[1] for sample in samples] == ["0", "1", "2", "3", "4", "5"]


def test_every_question_uses_the_first_template(make_finding, category):
    for sample in ask(make_finding(), category).kept:
        answers = ", ".join(option.answer for option in sample.options)
        assert sample.messages[0].text == f"<image>\nOptions: {answers}.\nDefect:"


def test_questions_are_equal_for_equal_seeds_and_differ_between_pictures(make_finding, category):
    first = prompts(ask(make_finding(), category))
    assert first == prompts(ask(make_finding(), category))
    others = [
        ask(make_finding(), category, seed=1),
        ask(make_finding(name="crack/001.png"), category),
        ask(make_finding(region_index=1), category),
    ]
    assert all([row[2] for row in prompts(other)] != [row[2] for row in first] for other in others)


@pytest.mark.parametrize(
    ("answer", "target"), [("hole", "hole"), ("good", "no defect"), ("dent", "none of these"), (None, "")]
)
def test_the_target_is_the_right_answer_if_it_is_known(make_finding, category, answer, target):
    assert {sample.target for sample in ask(make_finding(answer), category).kept} == {target}


def test_a_question_that_cannot_be_asked_is_dropped_with_the_reason(make_finding, category):
    result = ask(make_finding(with_region=False), category)
    assert result.kept == ()
    assert [note.reason for note in result.dropped] == ["the crop view needs a region and there is none"]


def test_no_order_at_all_is_refused(make_finding, category):
    with pytest.raises(ConfigError, match="num_option_orders is 0"):
        ask(make_finding(), category, num_option_orders=0)
