"""Whole parts are held out, of every kind its share, the same ones every time."""

from collections import Counter

import pytest

from velm_train.core.errors import ConfigError
from velm_train.training.holding_out import hold_out

GROUPS = [f"part {i // 2}" for i in range(40)]
"""Twenty parts of two samples."""
KINDS = ["scratch" if i // 2 < 12 else "hole" for i in range(40)]
"""Twelve parts scratched, eight with a hole."""


def held(groups: list[str], kinds: list[str], share: float, seed: int = 0) -> Counter[str]:
    chosen = hold_out(groups, kinds, share=share, seed=seed)
    return Counter(kinds[index] for index in chosen)


def test_nothing_is_held_out_by_default() -> None:
    assert hold_out(GROUPS, KINDS, share=0.0, seed=0) == frozenset()


def test_no_part_is_on_both_sides() -> None:
    for seed in range(20):
        chosen = hold_out(GROUPS, KINDS, share=0.3, seed=seed)
        inside = {GROUPS[index] for index in chosen}
        outside = {GROUPS[index] for index in range(40) if index not in chosen}
        assert inside.isdisjoint(outside)
        assert inside | outside == set(GROUPS)


def test_every_kind_gives_its_share() -> None:
    # A quarter of 20 parts is 5: 3 of 12 and 2 of 8, of two samples each.
    assert held(GROUPS, KINDS, 0.25) == {"scratch": 6, "hole": 4}
    # A fifth is 4: 2.4 and 1.6, of which the larger remainder is rounded up.
    assert held(GROUPS, KINDS, 0.2) == {"scratch": 4, "hole": 4}


def test_the_last_part_of_a_kind_is_never_held_out() -> None:
    groups, kinds = ["a", "b", "c", "d", "e"], ["rare", "often", "often", "often", "often"]
    for seed in range(20):
        assert held(groups, kinds, 0.5, seed) == {"often": 2}
    assert held(["a", "b", "c", "d"], ["x", "x", "y", "y"], 0.5) == {"x": 1, "y": 1}


def test_parts_of_several_kinds_are_drawn_so_that_each_kind_gives_its_share() -> None:
    # Every part shows two of three kinds; of the six, a third is two, and only two different pairs give all kinds
    # between one and two samples of their four.
    pairs = ["xy", "xy", "yz", "yz", "xz", "xz"]
    groups = [f"part {i // 2}" for i in range(12)]
    kinds = [pairs[i // 2][i % 2] for i in range(12)]
    for seed in range(20):
        chosen = hold_out(groups, kinds, share=1 / 3, seed=seed)
        assert sorted(Counter(kinds[index] for index in chosen).values()) == [1, 1, 2]


def test_a_part_that_alone_shows_a_kind_is_learned_from() -> None:
    groups = ["a", "a", "b", "c"]
    kinds = ["x", "rare", "x", "x"]
    for seed in range(20):
        assert {groups[index] for index in hold_out(groups, kinds, share=0.5, seed=seed)} == {"b", "c"}


def test_the_draw_depends_on_the_seed_and_not_on_the_order_of_samples() -> None:
    first = hold_out(GROUPS, KINDS, share=0.25, seed=1)
    assert first == hold_out(GROUPS, KINDS, share=0.25, seed=1)
    assert len({hold_out(GROUPS, KINDS, share=0.25, seed=seed) for seed in range(10)}) > 5
    backwards = hold_out(GROUPS[::-1], KINDS[::-1], share=0.25, seed=1)
    assert {GROUPS[index] for index in first} == {GROUPS[::-1][index] for index in backwards}


def test_a_share_that_comes_to_nothing_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"trainer\.validation_share=0\.01 holds out none of the 20 .* more than 0\.025"
    ):
        hold_out(GROUPS, KINDS, share=0.01, seed=0)
    with pytest.raises(ConfigError, match="none of the 2 training parts"):
        hold_out(["a", "b"], ["x", "y"], share=0.5, seed=0)
