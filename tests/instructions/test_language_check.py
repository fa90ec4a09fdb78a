"""Each check changes the words it is about, and nothing else."""

import pytest

from velm_train.core.taxonomy import CategoryTaxonomy, DefectType, Taxonomy
from velm_train.instructions.language_check import LANGUAGE_CHECKS, PLAIN_NOUN, reworded
from velm_train.instructions.options import closed_list, normalised


def kind(name: str, *synonyms: str) -> DefectType:
    return DefectType(display_name=name, description=f"The Bolt shows a {name}.", synonyms=synonyms)


BOLT = CategoryTaxonomy(
    noun="bolt",
    normal_description="A bolt without marks; bolts shine.",
    defect_types={"cut": kind("cut", "scratch", "gash"), "scratch": kind("scratch"), "dent": kind("dent", "bump")},
)
NUT = CategoryTaxonomy(noun="part", normal_description="", defect_types={"crack": kind("crack")})
TAXONOMY = Taxonomy(dataset="metal", categories={"bolt": BOLT, "nut": NUT})


def names(category: CategoryTaxonomy) -> list[str]:
    return [entry.display_name for entry in category.defect_types.values()]


@pytest.mark.parametrize("seed", range(8))
def test_permuted_names_are_the_same_names_and_none_stays_in_place(seed: int) -> None:
    changed = reworded(TAXONOMY, "permuted", seed=seed)
    assert set(changed.categories) == {"bolt"}  # a single type has no other name
    shown = names(changed.categories["bolt"])
    assert sorted(shown) == sorted(names(BOLT))
    assert all(before != after for before, after in zip(names(BOLT), shown, strict=True))


def test_nonsense_is_new_different_for_every_type_and_the_same_each_time() -> None:
    first, again, other = (reworded(TAXONOMY, "nonsense", seed=seed) for seed in (3, 3, 4))
    assert first == again != other
    shown = names(first.categories["bolt"])
    assert len(set(shown)) == 3
    assert not {*shown} & {*names(BOLT), "gash", "bump"}
    assert all(word.isalpha() and word.islower() for word in shown)


def test_synonym_that_reads_like_another_type_is_passed_over() -> None:
    changed = reworded(TAXONOMY, "synonym", seed=0)
    assert set(changed.categories) == {"bolt"}  # the nut's only type has no synonym
    assert names(changed.categories["bolt"]) == ["gash", "scratch", "bump"]


def test_noun_is_replaced_as_a_word_wherever_it_stands() -> None:
    changed = reworded(TAXONOMY, "no_noun", seed=0)
    assert set(changed.categories) == {"bolt"}  # the nut is called "part" already
    bolt = changed.categories["bolt"]
    assert (bolt.noun, bolt.normal_description) == (PLAIN_NOUN, "A part without marks; bolts shine.")
    assert bolt.defect_types["cut"].description == "The part shows a cut."
    assert names(bolt) == names(BOLT)


@pytest.mark.parametrize("check", LANGUAGE_CHECKS)
def test_types_and_their_order_stay_and_the_list_can_be_asked(check) -> None:
    bolt = reworded(TAXONOMY, check, seed=1).categories["bolt"]
    assert list(bolt.defect_types) == list(BOLT.defect_types)
    shown = [normalised(option.answer) for option in closed_list(bolt)]
    assert len(set(shown)) == len(shown)
