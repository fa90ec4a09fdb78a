"""A category's taxonomy in, the same with other words out: how much a model's answers rest on the names of the types.

    permuted   every type is shown under the name of another one of its category
    nonsense   every type is shown under a word that means nothing
    synonym    every type is shown under another name that people use
    no_noun    the object is called "part" wherever it is named

A model that looks and knows the words loses under "permuted" and "nonsense" and keeps its answers under "synonym".
One that goes by the place of an option in the list, or by anything but the words, keeps them everywhere.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from velm_train.core.seeding import generator
from velm_train.core.taxonomy import CategoryTaxonomy, DefectType, Taxonomy
from velm_train.instructions.options import SPECIAL_OPTIONS, normalised

LanguageCheck = Literal["permuted", "nonsense", "synonym", "no_noun"]
LANGUAGE_CHECKS: tuple[LanguageCheck, ...] = get_args(LanguageCheck)

PLAIN_NOUN = "part"

_BEGINNINGS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "t", "v", "z", "bl", "dr", "fl", "gr", "pl", "tr")
_MIDDLES = ("a", "e", "i", "o", "u")
_ENDS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "t", "x", "z")


def reworded(taxonomy: Taxonomy, check: LanguageCheck, *, seed: int) -> Taxonomy:
    """Returns the categories that the check changes, in other words; all others are left out.

    Left out are categories with a single type ("permuted"), without a synonym that is not taken ("synonym"), or
    whose object is called "part" already ("no_noun").

    Args:
        taxonomy: with the names as taught.
        check: what to change.
        seed: root seed; each category has draws of its own.
    """
    changed = {}
    for name, category in taxonomy.categories.items():
        rng = generator(seed, "language_check", check, name)
        other = _without_noun(category) if check == "no_noun" else _renamed(category, _names(category, check, rng))
        if other != category:
            changed[name] = other
    return Taxonomy(dataset=taxonomy.dataset, categories=changed)


def _names(category: CategoryTaxonomy, check: LanguageCheck, rng: np.random.Generator) -> list[str]:
    """Returns the name to show for every type, in the taxonomy's order."""
    kinds = list(category.defect_types.values())
    own = [kind.display_name for kind in kinds]
    if check == "permuted":
        order = rng.permutation(len(own))
        shown = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))  # one cycle: no type keeps its name
        return [own[shown[index]] for index in range(len(own))]
    taken = {normalised(name) for name in own} | {normalised(option.answer) for option in SPECIAL_OPTIONS}
    return [_synonym(kind, taken) if check == "synonym" else _nonsense(taken, rng) for kind in kinds]


def _synonym(kind: DefectType, taken: set[str]) -> str:
    """Returns the first synonym that reads like no other answer, or the own name; what is returned is taken."""
    for name in kind.synonyms:
        if normalised(name) not in taken:
            taken.add(normalised(name))
            return name
    return kind.display_name


def _nonsense(taken: set[str], rng: np.random.Generator) -> str:
    """Returns a word of two syllables that is not taken yet."""
    while True:
        word = "".join(_drawn(part, rng) for part in (_BEGINNINGS, _MIDDLES, _BEGINNINGS[:12], _MIDDLES, _ENDS))
        if word not in taken:
            taken.add(word)
            return word


def _drawn(parts: Sequence[str], rng: np.random.Generator) -> str:
    return parts[int(rng.integers(len(parts)))]


def _renamed(category: CategoryTaxonomy, names: Sequence[str]) -> CategoryTaxonomy:
    kinds = {
        key: replace(kind, display_name=name)
        for (key, kind), name in zip(category.defect_types.items(), names, strict=True)
    }
    return replace(category, defect_types=kinds)


def _without_noun(category: CategoryTaxonomy) -> CategoryTaxonomy:
    pattern = re.compile(rf"\b{re.escape(category.noun)}\b", re.IGNORECASE)

    def plain(text: str) -> str:
        return pattern.sub(PLAIN_NOUN, text)

    kinds = {key: replace(kind, description=plain(kind.description)) for key, kind in category.defect_types.items()}
    return replace(category, noun=PLAIN_NOUN, normal_description=plain(category.normal_description), defect_types=kinds)
