"""The closed list of a category: taxonomy in, options out, whole or drawn, reworded and ordered."""

from collections.abc import Sequence

import numpy as np

from velm_train.core.errors import DataError
from velm_train.core.records import NO_DEFECT_OPTION, NONE_OF_THESE_OPTION, NORMAL_DEFECT_TYPE, Option
from velm_train.core.taxonomy import CategoryTaxonomy

NO_DEFECT = Option(answer=NO_DEFECT_OPTION, defect_type=NORMAL_DEFECT_TYPE)
NONE_OF_THESE = Option(answer=NONE_OF_THESE_OPTION, defect_type=None)
SPECIAL_OPTIONS = (NO_DEFECT, NONE_OF_THESE)
"""On every list, in every draw."""


def normalised(text: str) -> str:
    """Returns text as answers are compared: without outer blanks, case and one trailing full stop."""
    return text.strip().lower().removesuffix(".").rstrip()


def closed_list(category: CategoryTaxonomy) -> tuple[Option, ...]:
    """Returns one option per defect type in the taxonomy's order, then "no defect" and "none of these".

    Raises:
        DataError: if two options would be read as the same answer, or a name is empty.
    """
    options = tuple(
        Option(answer=entry.display_name, defect_type=name) for name, entry in category.defect_types.items()
    )
    owners = {normalised(option.answer): f"the option {option.answer!r}" for option in SPECIAL_OPTIONS}
    for option in options:
        name = normalised(option.answer)
        if not name or name in owners:
            clash = f"reads the same as {owners[name]}" if name else "is empty"
            raise DataError(
                f"taxonomy of {category.noun!r}: display name {option.answer!r} of defect type {option.defect_type!r} "
                f"{clash}; give every type a name of its own"
            )
        owners[name] = f"defect type {option.defect_type!r}"
    return (*options, *SPECIAL_OPTIONS)


def gold_option(options: Sequence[Option], defect_type: str) -> Option:
    """Returns the right answer: the option of this type, or "none of these" if the list has none."""
    for option in options:
        if option.defect_type == defect_type:
            return option
    assert NONE_OF_THESE in options, options
    return NONE_OF_THESE


def without(options: Sequence[Option], defect_type: str) -> tuple[Option, ...]:
    """Returns the options without this type's, so that its right answer becomes "none of these"."""
    assert defect_type != NORMAL_DEFECT_TYPE, "'no defect' is always possible"
    return tuple(option for option in options if option.defect_type != defect_type)


def subset(options: Sequence[Option], *, keep: str | None, size: int, rng: np.random.Generator) -> tuple[Option, ...]:
    """Draws some of the options, in their old order.

    Args:
        options: a list with both special options, which always stay.
        keep: the defect type that must stay if it is there; None to keep the special options only.
        size: options to return, the special ones included.
        rng: source of the draw.
    """
    fixed = [i for i, option in enumerate(options) if option in SPECIAL_OPTIONS or option.defect_type == keep]
    others = [i for i in range(len(options)) if i not in fixed]
    assert len(fixed) <= size <= len(options), (len(fixed), size, len(options))
    drawn: Sequence[int] = rng.choice(len(others), size=size - len(fixed), replace=False).tolist() if others else []
    chosen = {*fixed, *(others[i] for i in drawn)}
    return tuple(option for i, option in enumerate(options) if i in chosen)


def shuffled(options: Sequence[Option], rng: np.random.Generator) -> tuple[Option, ...]:
    """Returns the options in a random order."""
    return tuple(options[int(i)] for i in rng.permutation(len(options)))


def option_orders(options: Sequence[Option], *, count: int, rng: np.random.Generator) -> tuple[tuple[Option, ...], ...]:
    """Returns orders over which a model's preference for places in the list averages out.

    They are evenly spaced rotations of one shuffle, so that with as many orders as options every option
    stands once in every place. Beyond that, each further round of rotations starts from a new shuffle.

    Args:
        options: the list to order, at least one option.
        count: number of orders, at least 1.
        rng: source of the shuffles.
    """
    num_options = len(options)
    orders: list[tuple[Option, ...]] = []
    while len(orders) < count:
        base = shuffled(options, rng)
        round_size = min(num_options, count - len(orders))
        offsets = [i * num_options // round_size for i in range(round_size)]
        orders += [base[offset:] + base[:offset] for offset in offsets]
    return tuple(orders)


def with_synonyms(
    options: Sequence[Option], category: CategoryTaxonomy, *, probability: float, rng: np.random.Generator
) -> tuple[Option, ...]:
    """Replaces display names by synonyms; the defect types stay.

    A synonym that reads like any display name of the category, a special option or a synonym already
    chosen is passed over.

    Args:
        options: options of this category.
        category: where the synonyms are.
        probability: chance of each option to be replaced, 0..1.
        rng: source of the draws.
    """
    taken = {normalised(option.answer) for option in closed_list(category)}
    replaced: list[Option] = []
    for option in options:
        chosen = option
        if rng.random() < probability and option not in SPECIAL_OPTIONS:
            assert option.defect_type is not None
            free = [
                name for name in category.defect_types[option.defect_type].synonyms if normalised(name) not in taken
            ]
            if free:
                chosen = Option(answer=free[int(rng.integers(len(free)))], defect_type=option.defect_type)
                taken.add(normalised(chosen.answer))
        replaced.append(chosen)
    return tuple(replaced)
