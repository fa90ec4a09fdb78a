"""What a fold leaves out: names in, the left-out ones out; by hash of the names, so the same in every run and seed."""

from collections.abc import Collection, Mapping

from velm_train.core.errors import DataError
from velm_train.core.records import TYPE_JOINER
from velm_train.core.seeding import derive_seed

_FOLD_SEED = 0
"""Folds do not follow the run's seed: over all folds every category is left out once, whatever the seeds are."""


def left_out_categories(categories: Collection[str], *, fold: int, num_folds: int) -> frozenset[str]:
    """Returns the categories of one fold; the sizes of folds differ by one at most.

    Raises:
        DataError: if there are fewer categories than folds.
    """
    if len(categories) < num_folds:
        raise DataError(
            f"num_folds is {num_folds}, but {len(categories)} categories can be left out; use {len(categories)} or "
            "fewer folds (2 at least)"
        )
    order = sorted(categories, key=lambda name: (derive_seed(_FOLD_SEED, "category fold", name), name))
    return frozenset(order[fold::num_folds])


def unknown_types(types: Mapping[str, Collection[str]], *, fold: int, num_folds: int) -> dict[str, tuple[str, ...]]:
    """Returns category -> the types of one fold, in alphabetical order.

    A category with fewer types than folds starts again at its first part, so that every fold leaves something out of
    every category with two types. A category with one type has nothing unknown, or nothing would be learned of it. A
    joined type with an unknown part is unknown as well.

    Raises:
        DataError: if no category has two types, or all types of a category would be unknown.
    """
    unknown: dict[str, tuple[str, ...]] = {}
    for category, names in sorted(types.items()):
        if len(names) < 2:
            continue
        num_parts = min(num_folds, len(names))
        order = sorted(names, key=lambda name: (derive_seed(_FOLD_SEED, "type fold", category, name), name))
        dealt = set(order[fold % num_parts :: num_parts])
        chosen = {name for name in names if dealt & {name, *name.split(TYPE_JOINER)}}
        if len(chosen) == len(names):
            raise DataError(
                f"category {category!r}: fold {fold} of {num_folds} leaves out {sorted(dealt)}, and every type holds "
                "one of them; set protocol.multi_label=leave_out or use another fold"
            )
        unknown[category] = tuple(sorted(chosen))
    if not unknown:
        raise DataError("leave_type_out needs a seen category with two defect types; found none")
    return unknown
