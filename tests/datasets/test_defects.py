"""Facts about the defect generator: exact masks, permitted sizes, visible changes, determinism."""

import numpy as np
import pytest

from velm_train.datasets.defect_shapes import luminance, stroke
from velm_train.datasets.defects import (
    DEFECT_PAINTERS,
    MAX_AREA_FRACTION,
    MIN_AREA_FRACTION,
    add_defect,
)

SIZES_HW = [(256, 320), (96, 136)]


def surface(name: str, size_hw: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(5)
    mean, spread = {"calm": (150.0, 2.0), "busy": (120.0, 38.0), "dark": (35.0, 8.0), "light": (235.0, 8.0)}[name]
    grey = rng.normal(mean, spread, size=size_hw)
    tint = np.array([1.05, 1.0, 0.9])
    return (grey[..., None] * tint).clip(0, 255).astype(np.float32)


@pytest.mark.parametrize("size_hw", SIZES_HW)
@pytest.mark.parametrize("defect_type", DEFECT_PAINTERS)
def test_outside_the_mask_nothing_changes_and_inside_nearly_everything_does(defect_type, size_hw) -> None:
    for number, name in enumerate(("calm", "busy", "dark", "light")):
        clean = surface(name, size_hw)
        kept = clean.copy()
        defect = add_defect(clean, defect_type=defect_type, rng=np.random.default_rng(number))
        assert np.array_equal(clean, kept)
        assert np.array_equal(defect.image[~defect.gt_mask], clean[~defect.gt_mask])
        changed = (defect.image != clean).any(axis=2)
        assert changed[defect.gt_mask].mean() > 0.97
        assert MIN_AREA_FRACTION <= defect.gt_mask.mean() <= MAX_AREA_FRACTION
        assert defect.image.min() >= 0.0
        assert defect.image.max() <= 255.0


@pytest.mark.parametrize("defect_type", DEFECT_PAINTERS)
@pytest.mark.parametrize("name", ["calm", "busy", "dark", "light"])
def test_every_type_stands_out_on_every_surface(defect_type, name) -> None:
    clean = surface(name, (256, 320))
    contrast = float(luminance(clean).std())
    for seed in range(4):
        defect = add_defect(clean, defect_type=defect_type, rng=np.random.default_rng(seed))
        change = np.abs(defect.image - clean).max(axis=2)[defect.gt_mask]
        assert np.percentile(change, 90) > max(12.0, 0.5 * contrast)


@pytest.mark.parametrize("defect_type", DEFECT_PAINTERS)
def test_the_same_generator_gives_the_same_defect_and_another_gives_another(defect_type) -> None:
    clean = surface("calm", (96, 136))
    first = add_defect(clean, defect_type=defect_type, rng=np.random.default_rng(1))
    again = add_defect(clean, defect_type=defect_type, rng=np.random.default_rng(1))
    other = add_defect(clean, defect_type=defect_type, rng=np.random.default_rng(2))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.gt_mask, again.gt_mask)
    assert not np.array_equal(first.gt_mask, other.gt_mask)


def test_a_straight_stroke_covers_its_length_times_its_width() -> None:
    points = np.array([[10.0, 20.0], [40.0, 20.0]])
    covered = stroke(points, np.full(2, 4.0), size_hw=(50, 60))
    assert covered[20, 25] == 1.0
    assert covered.sum() == pytest.approx(30 * 4, rel=0.12)


def test_a_stroke_outside_the_image_covers_nothing() -> None:
    points = np.array([[-30.0, -30.0], [-20.0, -25.0]])
    assert stroke(points, np.full(2, 3.0), size_hw=(20, 30)).sum() == 0.0
