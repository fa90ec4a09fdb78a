"""The closed list, its draws and its orders."""

from collections import Counter

import numpy as np
import pytest

from velm_train.core.errors import DataError
from velm_train.core.records import Option
from velm_train.core.taxonomy import CategoryTaxonomy, DefectType
from velm_train.instructions.options import (
    NO_DEFECT,
    NONE_OF_THESE,
    closed_list,
    gold_option,
    normalised,
    option_orders,
    shuffled,
    subset,
    with_synonyms,
    without,
)


def answers(options):
    return [option.answer for option in options]


def test_closed_list_holds_display_names_then_both_special_options(category):
    assert closed_list(category) == (
        Option(answer="crack", defect_type="crack"),
        Option(answer="hole", defect_type="hole"),
        Option(answer="color spot", defect_type="color"),
        Option(answer="scratch", defect_type="scratch"),
        Option(answer="no defect", defect_type="good"),
        Option(answer="none of these", defect_type=None),
    )


@pytest.mark.parametrize("name", ["Crack.", "No defect", "none of these", " "])
def test_names_that_read_alike_are_refused(name):
    types = {
        "crack": DefectType(display_name="crack", description="", synonyms=()),
        "other": DefectType(display_name=name, description="", synonyms=()),
    }
    with pytest.raises(DataError, match="'other'"):
        closed_list(CategoryTaxonomy(noun="brick", normal_description="", defect_types=types))


def test_gold_option_of_an_unlisted_type_is_none_of_these(category):
    options = closed_list(category)
    assert gold_option(options, "color").answer == "color spot"
    assert gold_option(options, "good") == NO_DEFECT
    assert gold_option(options, "dent") == NONE_OF_THESE
    assert gold_option(without(options, "crack"), "crack") == NONE_OF_THESE


def test_subset_keeps_the_true_type_both_specials_and_the_order(category):
    options = closed_list(category)
    seen = set()
    for seed in range(40):
        drawn = subset(options, keep="hole", size=4, rng=np.random.default_rng(seed))
        assert len(drawn) == 4
        assert {"hole", "no defect", "none of these"} <= set(answers(drawn))
        assert list(drawn) == [option for option in options if option in drawn]
        seen |= set(answers(drawn))
    assert seen == set(answers(options))


def test_subset_of_full_size_is_the_list(category):
    options = closed_list(category)
    assert subset(options, keep=None, size=6, rng=np.random.default_rng(0)) == options


def test_subset_without_a_type_to_keep_may_hold_the_special_options_only(category):
    drawn = subset(closed_list(category), keep=None, size=2, rng=np.random.default_rng(0))
    assert drawn == (NO_DEFECT, NONE_OF_THESE)


def test_shuffled_is_a_permutation_that_the_seed_decides(category):
    options = closed_list(category)
    first, again = (shuffled(options, np.random.default_rng(3)) for _ in range(2))
    assert first == again
    assert Counter(first) == Counter(options)
    assert len({shuffled(options, np.random.default_rng(seed)) for seed in range(20)}) > 10


def test_as_many_orders_as_options_put_every_option_once_in_every_place(category):
    options = closed_list(category)
    orders = option_orders(options, count=6, rng=np.random.default_rng(1))
    for place in range(6):
        assert {order[place] for order in orders} == set(options)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
def test_option_orders_are_that_many_permutations(category, count):
    options = closed_list(category)
    orders = option_orders(options, count=count, rng=np.random.default_rng(1))
    assert len(orders) == count
    assert all(Counter(order) == Counter(options) for order in orders)
    assert len(set(orders[:6])) == min(count, 6)


def test_three_orders_of_six_options_are_rotations_by_two(category):
    first, second, third = option_orders(closed_list(category), count=3, rng=np.random.default_rng(1))
    assert second == first[2:] + first[:2]
    assert third == first[4:] + first[:4]


def test_synonyms_keep_the_defect_type_and_never_replace_special_options(category):
    options = closed_list(category)
    replaced = with_synonyms(options, category, probability=1.0, rng=np.random.default_rng(0))
    assert [option.defect_type for option in replaced] == [option.defect_type for option in options]
    assert replaced[0].answer in {"fissure", "break"}
    assert answers(replaced[1:]) == ["pit", "discoloration", "scrape", "no defect", "none of these"]


def test_no_synonym_is_used_at_probability_zero(category):
    options = closed_list(category)
    assert with_synonyms(options, category, probability=0.0, rng=np.random.default_rng(0)) == options


def test_a_synonym_that_reads_like_another_option_is_passed_over():
    types = {
        "cut": DefectType(display_name="cut", description="", synonyms=("Scratch", "none of these", "slit")),
        "scratch": DefectType(display_name="scratch", description="", synonyms=("slit", "cut")),
    }
    category = CategoryTaxonomy(noun="tile", normal_description="", defect_types=types)
    for seed in range(20):
        replaced = with_synonyms(closed_list(category), category, probability=1.0, rng=np.random.default_rng(seed))
        assert answers(replaced) == ["slit", "scratch", "no defect", "none of these"]


@pytest.mark.parametrize("text", ["crack", " Crack ", "CRACK.", "crack .", "\ncrack.\n"])
def test_normalised_ignores_case_blanks_and_one_full_stop(text):
    assert normalised(text) == "crack"
