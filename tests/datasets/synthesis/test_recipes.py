"""Recipes name operators; a chain unites the masks of its members."""

import numpy as np
import pytest

from velm_train.core.errors import DataError
from velm_train.datasets.defects import DEFECT_PAINTERS
from velm_train.datasets.synthesis.names import OPERATOR_NAMES
from velm_train.datasets.synthesis.protocol import chain
from velm_train.datasets.synthesis.recipes import OPERATORS, make_recipes


def test_settings_and_code_know_the_same_operators() -> None:
    assert sorted(OPERATORS) == list(OPERATOR_NAMES)
    assert set(DEFECT_PAINTERS) < set(OPERATORS)


def test_a_chain_paints_one_after_the_other_and_unites_coverage(surfaces) -> None:
    clean = surfaces[0].astype(np.float32)
    part = np.ones(clean.shape[:2], dtype=np.bool_)
    given = {"donors": [], "foreground": part}
    both = chain(OPERATORS["hole"], OPERATORS["warp"])(clean, rng=np.random.default_rng(7), **given)
    rng = np.random.default_rng(7)
    first = OPERATORS["hole"](clean, rng=rng, **given)
    second = OPERATORS["warp"](first.image, rng=rng, **given)
    assert np.array_equal(both.image, second.image)
    assert np.array_equal(both.coverage, np.maximum(first.coverage, second.coverage))
    assert ((first.coverage > 0.5) & (second.coverage == 0)).any()


def test_a_chain_of_one_is_its_member() -> None:
    assert make_recipes({"dent": ["warp"]}) == {"dent": OPERATORS["warp"]}


@pytest.mark.parametrize(
    ("recipes", "message"),
    [
        ({}, "no defect type is asked for"),
        ({"good": ["hole"]}, "'good' cannot be a type's name"),
        ({"a+b": ["hole"]}, "'a\\+b' cannot be a type's name"),
        ({"dent": []}, "'dent' has no operator"),
        ({"dent": ["wrap"]}, "operator 'wrap' is unknown \\(did you mean 'warp'\\?\\)"),
    ],
)
def test_recipes_that_cannot_be_made_are_refused(recipes, message) -> None:
    with pytest.raises(DataError, match=message):
        make_recipes(recipes)
