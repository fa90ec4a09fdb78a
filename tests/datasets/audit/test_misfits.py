"""Facts about images that look like another category."""

import numpy as np

from velm_train.datasets.audit.misfits import find_misfits


def colours(centre: float, *, count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.clip(rng.normal(centre, 4.0, (count, 4, 4, 3)), 0, 255).astype(np.uint8)


def test_22_of_267_that_are_like_each_other_and_like_another_category_are_found() -> None:
    pills, foreign, nuts = (
        colours(60, count=245, seed=0),
        colours(170, count=22, seed=1),
        colours(170, count=220, seed=2),
    )
    found = find_misfits(np.concatenate([pills, foreign, nuts]), categories=["pill"] * 267 + ["nut"] * 220)
    assert found == dict.fromkeys(range(245, 267), "nut")


def test_an_image_that_is_like_no_category_is_left_alone() -> None:
    strange = colours(240, count=1, seed=3)
    values = np.concatenate([colours(60, count=20, seed=0), strange, colours(150, count=20, seed=2)])
    assert find_misfits(values, categories=["pill"] * 21 + ["nut"] * 20) == {}


def test_overlapping_categories_accuse_no_one() -> None:
    values = np.concatenate([colours(60, count=40, seed=0), colours(62, count=40, seed=2)])
    assert find_misfits(values, categories=["pill"] * 40 + ["nut"] * 40) == {}


def test_too_small_categories_are_not_judged() -> None:
    values = np.concatenate(
        [colours(60, count=3, seed=0), colours(170, count=1, seed=1), colours(170, count=9, seed=2)]
    )
    assert find_misfits(values, categories=["pill"] * 4 + ["nut"] * 9) == {}
