"""Parsing is strict and undoes what the templates write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from velm_train.core.records import Option
from velm_train.core.taxonomy import CategoryTaxonomy, DefectType
from velm_train.instructions.answers import CELLS, LocatedAnswer, located_answer, parse, parse_located
from velm_train.instructions.options import NO_DEFECT, NONE_OF_THESE, SPECIAL_OPTIONS, closed_list, normalised

NAMES = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\n"), min_size=1, max_size=12)
LISTS = st.lists(NAMES.filter(normalised), min_size=1, max_size=6, unique_by=normalised).filter(
    lambda names: not {normalised(name) for name in names} & {option.answer for option in SPECIAL_OPTIONS}
)


def options_of(names):
    types = {f"type{i}": DefectType(display_name=name, description="", synonyms=()) for i, name in enumerate(names)}
    return closed_list(CategoryTaxonomy(noun="part", normal_description="", defect_types=types))


@given(names=LISTS, wrapping=st.sampled_from(["{}", " {}", "{}\n", "{}."]))
def test_parse_returns_the_option_that_was_written(names, wrapping):
    options = options_of(names)
    for option in options:
        response = wrapping.format(option.answer)
        if wrapping == "{}." and option.answer.rstrip().endswith("."):
            continue  # a second full stop is a difference
        assert parse(response, options) == option


@given(names=LISTS, cell=st.sampled_from(CELLS))
def test_parse_located_returns_the_place_and_option_that_were_written(names, cell):
    options = options_of(names)
    for option in options:
        if option == NO_DEFECT or parse(located_answer(cell, option), options) is not None:
            continue
        assert parse_located(located_answer(cell, option), options) == LocatedAnswer(cell=cell, option=option)


@pytest.mark.parametrize("response", ["", "cracks", "a crack", "crack, hole", "crack..", "no", "the answer is crack"])
def test_anything_but_one_option_is_unparsed(category, response):
    assert parse(response, closed_list(category)) is None


def test_a_trailing_full_stop_does_not_count(category):
    assert parse("Color spot.", closed_list(category)) == Option(answer="color spot", defect_type="color")


def test_an_option_left_off_the_list_is_unparsed(category):
    assert parse("crack", closed_list(category)[1:]) is None


def test_no_defect_has_no_place(category):
    options = closed_list(category)
    assert parse_located("No defect.", options) == LocatedAnswer(cell=None, option=NO_DEFECT)
    assert parse_located("top, no defect", options) is None


def test_a_type_without_a_place_is_unparsed(category):
    options = closed_list(category)
    assert parse_located("crack", options) is None
    assert parse_located("middle, crack", options) is None
    assert parse_located("Top left, None of these.", options) == LocatedAnswer(cell="top left", option=NONE_OF_THESE)
