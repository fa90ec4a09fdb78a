"""Settings of task=synthesise: the shipped ones can be made, impossible ones are refused by name."""

import pytest

from velm_train.cli.compose import load_config
from velm_train.core.errors import ConfigError
from velm_train.datasets.synthesis.recipes import make_recipes


def test_shipped_recipes_can_be_made() -> None:
    defects = load_config(["task=synthesise"]).defects
    assert set(make_recipes(defects.recipes)) >= set(defects.types)


def test_a_recipe_of_ones_own_is_added_to_the_shipped_ones() -> None:
    defects = load_config(["++defects.recipes={chipped:[missing_part,crack]}", "defects.types=[chipped,hole]"]).defects
    assert defects.recipes["chipped"] == ["missing_part", "crack"]
    assert defects.types == ["chipped", "hole"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("defects.types=[]", "defects.types=\\[\\] is not possible; allowed: one type or more"),
        ("defects.types=[hole,hole]", "allowed: each once"),
        ("defects.types=[holes]", "defects.types=holes is not possible; allowed: bent, color"),
        ("++defects.recipes={dent:[wrap]}", "defects.recipes.dent=wrap is not possible; allowed: bent, color"),
        ("++defects.recipes={dent:[]}", "defects.recipes.dent=\\[\\] is not possible"),
        ("++defects.recipes={good:[hole]}", "defects.recipes=good is not possible"),
        ("defects.per_type=1", "defects.per_type=1 is not possible"),
        ("defects.foreground=some", "defects.foreground=some is not possible; allowed: auto, whole"),
        ("defects.out=''", "defects.out='' is not possible; allowed: a folder or null"),
    ],
)
def test_impossible_values_are_refused(word, message) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config([word])
