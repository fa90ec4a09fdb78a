"""Derived seeds are stable, independent of each other, and depend on every name."""

import numpy as np
import pytest

from velm_train.core.seeding import derive_seed, generator


@pytest.mark.parametrize(
    ("seed", "names", "head"),
    [
        (0, (), 0x5FECEB66FFC86F38),
        (0, ("a",), 0xEF2C25EF33CA6BEC),
        (1, ("a",), 0xAAA8BE88BD4AFA32),
        (7, ("gate", "split"), 0x82673559C1ADBED4),
    ],
)
def test_seed_is_half_the_head_of_the_hash(seed: int, names: tuple[str, ...], head: int) -> None:
    # The first eight bytes that sha256sum prints for the seed and names, joined by the byte 1f.
    assert derive_seed(seed, *names) == head // 2


def test_seed_fits_a_signed_64_bit_integer() -> None:
    assert all(0 <= derive_seed(seed, "name") < 2**63 for seed in range(1000))


def test_every_name_and_their_order_count() -> None:
    seeds = [
        derive_seed(0, "a", "b"),
        derive_seed(0, "b", "a"),
        derive_seed(0, "ab"),
        derive_seed(0, "a", "b", ""),
        derive_seed(0, "a"),
        derive_seed(1, "a", "b"),
        derive_seed(-1, "a", "b"),
    ]
    assert len(set(seeds)) == len(seeds)


def test_generator_repeats_itself() -> None:
    assert np.array_equal(generator(3, "x").random(5), generator(3, "x").random(5))


def test_draws_of_one_name_do_not_shift_another() -> None:
    expected = generator(0, "crops").random(4)
    generator(0, "flips").random(1000)
    assert np.array_equal(generator(0, "crops").random(4), expected)


def test_neighbouring_seeds_and_names_give_unrelated_draws() -> None:
    draws = np.stack([generator(seed, name).standard_normal(4000) for seed in (0, 1) for name in ("a", "b")])
    off_diagonal = np.corrcoef(draws)[~np.eye(4, dtype=bool)]
    assert np.abs(off_diagonal).max() < 0.08  # five standard deviations of a correlation over 4000 draws


def test_global_generator_is_left_alone() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the state that must not move
    generator(0, "x").random(10)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
