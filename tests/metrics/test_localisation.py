"""Facts about pixel AUROC and AUPRO."""

import itertools

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from velm_train.core.errors import DataError
from velm_train.metrics.localisation import (
    NUM_EDGES,
    PUBLISHED_LIMIT,
    PixelCounts,
    aupro_values,
    count_pixels,
    localisation_scores,
    pixel_auroc_values,
    value_edges,
)


def slow_aupro(maps: list[np.ndarray], masks: list[np.ndarray], *, limit: float) -> float:
    """Threshold by threshold, region by region."""
    regions, others = [], []
    for anomaly_map, mask in zip(maps, masks, strict=True):
        labels, found = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [anomaly_map[labels == number + 1] for number in range(found)]
        others.append(anomaly_map[~mask])
    background = np.concatenate(others)
    points = [(0.0, 0.0)]
    for threshold in sorted({float(v) for anomaly_map in maps for v in anomaly_map.ravel()}, reverse=True):
        overlap = np.mean([np.mean(region >= threshold) for region in regions])
        points.append((float(np.mean(background >= threshold)), float(overlap)))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 >= limit:
            break
        end = min(x1, limit)
        at_end = y1 if x1 <= limit else y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        area += (end - x0) * (y0 + at_end) / 2
    return area / limit


def case(seed: int, *, distinct: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    masks = [rng.random((11, 17)) > 0.85 for _ in range(2)] + [np.zeros((9, 14), dtype=bool)]
    maps = [np.floor((rng.random(m.shape) + 0.5 * m) * distinct).astype(np.float32) for m in masks]
    return maps, masks


def counted(maps: list[np.ndarray], masks: list[np.ndarray]) -> PixelCounts:
    return count_pixels(zip(maps, masks, strict=True), edges=value_edges(maps))


def aupro(maps: list[np.ndarray], masks: list[np.ndarray], *, limit: float) -> float:
    return float(aupro_values(counted(maps, masks), np.ones((1, len(maps))), limit=limit)[0])


def pixel_auroc(maps: list[np.ndarray], masks: list[np.ndarray]) -> float:
    return float(pixel_auroc_values(counted(maps, masks), np.ones((1, len(maps))))[0])


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize(("seed", "distinct"), [(0, 1000), (1, 12), (2, 3)])
def test_aupro_equals_the_definition_written_out(seed: int, distinct: int, limit: float) -> None:
    maps, masks = case(seed, distinct=distinct)
    assert aupro(maps, masks, limit=limit) == pytest.approx(slow_aupro(maps, masks, limit=limit), rel=1e-6)


@pytest.mark.parametrize(("seed", "distinct"), [(3, 1000), (4, 5)])
def test_pixel_auroc_equals_scikit_learn(seed: int, distinct: int) -> None:
    maps, masks = case(seed, distinct=distinct)
    labels, values = (np.concatenate([one.ravel() for one in many]) for many in (masks, maps))
    assert pixel_auroc(maps, masks) == pytest.approx(roc_auc_score(labels, values))


def test_ranges_stand_in_for_thresholds_where_there_are_too_many_values() -> None:
    rng = np.random.default_rng(5)
    masks = [rng.random((60, 90)) > 0.97, np.zeros((60, 90), dtype=bool)]
    maps = [rng.lognormal(0, 1, mask.shape).astype(np.float32) + 2 * mask for mask in masks]
    assert len(np.unique(maps)) > 4 * NUM_EDGES
    assert value_edges(maps).size <= NUM_EDGES
    labels, values = (np.concatenate([one.ravel() for one in many]) for many in (masks, maps))
    assert pixel_auroc(maps, masks) == pytest.approx(roc_auc_score(labels, values), abs=2e-4)
    assert aupro(maps, masks, limit=0.3) == pytest.approx(exact_aupro(maps, masks, limit=0.3), abs=5e-4)


def exact_aupro(maps: list[np.ndarray], masks: list[np.ndarray], *, limit: float) -> float:
    """Every pixel a threshold, by sorting; the values are distinct."""
    weights = []
    for mask in masks:
        labels, found = ndimage.label(mask, structure=np.ones((3, 3)))
        sizes = np.bincount(labels.ravel(), minlength=found + 1)
        weights.append(np.where(labels > 0, 1 / sizes[labels], 0).ravel())
    share, values = np.concatenate(weights), np.concatenate([one.ravel() for one in maps])
    share = share[np.argsort(-values)]
    x = np.cumsum(share == 0) / (share == 0).sum()
    y = np.cumsum(share) / share.sum()
    return float(np.trapezoid(y[x <= limit], x[x <= limit]) / limit)


def test_value_between_two_cells_belongs_to_the_lower_one() -> None:
    mask = np.array([[True, False, False]])
    counts = count_pixels([(np.array([[2.5, 2.0, 0.5]]), mask)], edges=np.array([1.0, 2.0, 3.0]))
    assert counts.defective.tolist() == [[0, 1, 0]]
    assert counts.normal.tolist() == [[1, 1, 0]]  # what interpolation put below the lowest counts as the lowest


def test_perfect_map_has_area_one_and_constant_map_half_of_the_limit() -> None:
    mask = np.zeros((8, 13), dtype=bool)
    mask[2:4, 3:6] = mask[6, 10] = True
    perfect = [mask.astype(np.float32)]
    assert aupro(perfect, [mask], limit=0.3) == pytest.approx(1.0)
    assert pixel_auroc(perfect, [mask]) == 1.0
    assert counted(perfect, [mask]).num_regions.tolist() == [2]
    flat = [np.ones((8, 13), dtype=np.float32)]
    assert aupro(flat, [mask], limit=0.3) == pytest.approx(0.15)
    assert pixel_auroc(flat, [mask]) == pytest.approx(0.5)


def test_small_region_counts_as_much_as_a_large_one() -> None:
    mask = np.zeros((10, 20), dtype=bool)
    mask[:5, :10] = mask[9, 19] = True
    large_alone = np.where(mask, 1.0, 0.0).astype(np.float32)
    large_alone[9, 19] = -1.0  # found last of all, behind every other pixel
    assert aupro([large_alone], [mask], limit=0.3) == pytest.approx(0.5)
    small_alone = np.where(mask, -1.0, 0.0).astype(np.float32)
    small_alone[9, 19] = 1.0
    assert aupro([small_alone], [mask], limit=0.3) == pytest.approx(0.5)


def test_image_drawn_twice_counts_as_two_images() -> None:
    maps, masks = case(6, distinct=40)
    weights = np.array([[2.0, 0.0, 1.0]])
    drawn = [0, 0, 2]
    twice, outlines = [maps[i] for i in drawn], [masks[i] for i in drawn]
    counts = counted(maps, masks)
    assert aupro_values(counts, weights, limit=0.3)[0] == pytest.approx(
        slow_aupro(twice, outlines, limit=0.3), rel=1e-6
    )
    assert pixel_auroc_values(counts, weights)[0] == pytest.approx(pixel_auroc(twice, outlines))


def test_figures_are_means_over_categories_and_say_what_is_missing() -> None:
    near, outlines = case(7, distinct=50)
    far = [3 * one for one in near]  # another detector's units: never ranked against the first
    blank = [np.zeros_like(one) for one in outlines]
    scores = localisation_scores(
        {"a": counted(near, outlines), "b": counted(far, outlines), "c": counted(near, blank)},
        strata=dict.fromkeys("abc", np.array([1, 1, 0])),
        note="without 2 defective images that have no mask",
        num_bootstrap=50,
        seed=0,
    )
    assert scores.aupro.value == pytest.approx(slow_aupro(near, outlines, limit=PUBLISHED_LIMIT), rel=1e-6)
    assert scores.aupro.n == 6
    assert scores.aupro.note == "without 2 defective images that have no mask; without c: no defect masks"
    assert scores.pixel_auroc.low is not None
    assert scores.pixel_auroc.low <= scores.pixel_auroc.value <= scores.pixel_auroc.high


@pytest.mark.parametrize("value", [True, False])
def test_masks_of_one_kind_give_no_figure_and_the_reason(value: bool) -> None:
    counts = counted([np.ones((3, 5), dtype=np.float32)], [np.full((3, 5), value)])
    scores = localisation_scores({"nut": counts}, strata={"nut": np.array([0])}, note="", num_bootstrap=5, seed=0)
    assert scores.aupro.value is None
    assert "with a mask" in scores.aupro.note


def test_sizes_must_agree() -> None:
    with pytest.raises(DataError, match="one size"):
        count_pixels([(np.ones((3, 5)), np.ones((5, 3), dtype=bool))], edges=np.array([0.0]))
    with pytest.raises(DataError, match="without an image"):
        count_pixels([], edges=np.array([0.0]))
