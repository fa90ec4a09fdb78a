"""Every operator gives an exact mask, on surfaces and on parts, in colour and grey."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from velm_train.datasets.defect_surface import Painted
from velm_train.datasets.synthesis.making import (
    MAX_AREA_FRACTION,
    MIN_AREA_FRACTION,
    MIN_CHANGE,
    MIN_MEAN_CHANGE,
    SyntheticDefect,
    make_defect,
)
from velm_train.datasets.synthesis.recipes import OPERATORS

EVERY = sorted(OPERATORS)


def make(good, name, *, donors=(), foreground=None, seed=0) -> SyntheticDefect:
    rng = np.random.default_rng(seed)
    made = make_defect(good, operator=OPERATORS[name], donors=donors, foreground=foreground, rng=rng)
    assert made is not None
    return made


def check(good: np.ndarray, made: SyntheticDefect, *, part: np.ndarray) -> None:
    assert np.array_equal(made.image[~made.gt_mask], good[~made.gt_mask])
    change = np.abs(made.image.astype(int) - good).max(axis=2)
    assert change[made.gt_mask].mean() >= MIN_MEAN_CHANGE
    assert (change[made.gt_mask] >= MIN_CHANGE).mean() > 0.75
    assert MIN_AREA_FRACTION <= made.gt_mask.sum() / part.sum() <= MAX_AREA_FRACTION
    assert (made.gt_mask & part).sum() >= made.gt_mask.sum() / 2


@pytest.mark.parametrize("name", EVERY)
def test_on_a_surface_nothing_changes_outside_the_mask(name, surfaces) -> None:
    for seed in range(2):
        kept = surfaces[0].copy()
        made = make(surfaces[0], name, donors=surfaces[1:], seed=seed)
        assert np.array_equal(surfaces[0], kept)
        check(kept, made, part=np.ones(kept.shape[:2], dtype=bool))


@pytest.mark.parametrize("name", EVERY)
def test_on_a_part_the_defect_keeps_to_the_part(name, parts, part_foreground) -> None:
    for seed in range(2):
        made = make(parts[0], name, donors=parts[1:], foreground=part_foreground, seed=seed)
        check(parts[0], made, part=part_foreground)
        near = binary_dilation(part_foreground, iterations=3)
        assert name in {"warp"} or not (made.gt_mask & ~near).any()


@pytest.mark.parametrize("name", EVERY)
def test_the_same_generator_gives_the_same_defect_and_another_gives_another(name, surfaces) -> None:
    first, again, other = (make(surfaces[0], name, donors=surfaces[1:], seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.gt_mask, again.gt_mask)
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("name", [name for name in EVERY if name != "color"])
def test_a_grey_picture_stays_grey_and_donors_may_be_absent(name) -> None:
    grey = np.repeat(np.random.default_rng(0).normal(120, 12, (110, 80, 1)), 3, axis=2).clip(0, 255).astype(np.uint8)
    made = make(grey, name)
    assert np.array_equal(made.image[..., 0], made.image[..., 1])
    assert np.array_equal(made.image[..., 0], made.image[..., 2])
    check(grey, made, part=np.ones(grey.shape[:2], dtype=bool))


def test_a_change_of_hue_is_no_defect_to_a_grey_camera() -> None:
    grey = np.full((110, 80, 3), 120, dtype=np.uint8)
    rng = np.random.default_rng(0)
    assert make_defect(grey, operator=OPERATORS["color"], donors=[], foreground=None, rng=rng) is None


def test_a_defect_that_nobody_could_see_is_not_made() -> None:
    flat = np.full((80, 100, 3), 128, dtype=np.uint8)
    rng = np.random.default_rng(0)
    made = make_defect(flat, operator=OPERATORS["poisson_blend"], donors=[flat], foreground=None, rng=rng)
    assert made is None


class Stamp:
    """Raises a fixed rectangle by 40 grey levels but leaves two of its pixels, and one far pixel, out of the rule."""

    def __call__(
        self,
        clean: np.ndarray,
        *,
        donors: Sequence[np.ndarray],
        foreground: np.ndarray,
        rng: np.random.Generator,
    ) -> Painted:
        del donors, foreground, rng
        image, coverage = clean.copy(), np.zeros(clean.shape[:2], dtype=np.float32)
        image[20:32, 30:50] += 40
        image[25, 40:42] -= 40  # unchanged by chance, inside
        image[60, 60] += 40  # a speck apart
        image[5:9, 5:9] += 40  # changed but not covered
        coverage[18:34, 28:52] = coverage[60, 60] = 1.0
        return Painted(image=image, coverage=coverage)


def test_the_mask_is_what_changed_with_pinholes_closed_and_specks_dropped() -> None:
    good = np.full((80, 100, 3), 100, dtype=np.uint8)
    made = make_defect(good, operator=Stamp(), donors=[], foreground=None, rng=np.random.default_rng(0))
    assert made is not None
    expected = np.zeros((80, 100), dtype=bool)
    expected[20:32, 30:50] = True
    assert np.array_equal(made.gt_mask, expected)
    assert made.image[25, 40].tolist() == [100] * 3
    assert made.image[60, 60].tolist() == [100] * 3
    assert made.image[6, 6].tolist() == [100] * 3
    assert made.image[22, 33].tolist() == [140] * 3


def test_a_small_part_in_a_large_picture_gets_a_small_defect() -> None:
    good = np.full((300, 400, 3), 220, dtype=np.uint8)
    foreground = np.zeros((300, 400), dtype=np.bool_)
    foreground[200:270, 30:110] = True
    good[foreground] = np.random.default_rng(0).integers(60, 110, (foreground.sum(), 3))
    for name in ("scratch", "hole", "cut_paste"):
        made = make(good, name, foreground=foreground)
        assert not (made.gt_mask & ~foreground).any()
        assert 0 < made.gt_mask.sum() <= MAX_AREA_FRACTION * foreground.sum()


def test_a_missing_part_shows_the_background(parts, part_foreground) -> None:
    made = make(parts[0], "missing_part", foreground=part_foreground, seed=5)
    gone = made.gt_mask & (np.abs(made.image.astype(int) - 225).max(axis=2) < 12)
    assert gone.sum() > 0.5 * made.gt_mask.sum()


def test_a_blended_piece_meets_its_surroundings_without_a_step(surfaces) -> None:
    smooth = np.repeat(np.linspace(60, 190, 130)[None, :, None], 100, axis=0) * np.ones(3)
    good = smooth.astype(np.uint8)
    made = make(good, "poisson_blend", donors=surfaces[1:])
    rim = made.gt_mask & binary_dilation(~made.gt_mask)
    change = np.abs(made.image.astype(int) - good).max(axis=2)
    assert change[rim].mean() < 0.6 * change[made.gt_mask & ~rim].mean()
