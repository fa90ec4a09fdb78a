"""Facts about pixel AUROC and AUPRO."""

import itertools

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from velm_train.core.errors import DataError
from velm_train.metrics.localisation import localisation_scores


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


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize(("seed", "distinct"), [(0, 1000), (1, 12), (2, 3)])
def test_aupro_equals_the_definition_written_out(seed: int, distinct: int, limit: float) -> None:
    maps, masks = case(seed, distinct=distinct)
    assert localisation_scores(maps, masks, limit=limit).aupro == pytest.approx(slow_aupro(maps, masks, limit=limit))


@pytest.mark.parametrize(("seed", "distinct"), [(3, 1000), (4, 5)])
def test_pixel_auroc_equals_scikit_learn(seed: int, distinct: int) -> None:
    maps, masks = case(seed, distinct=distinct)
    labels, values = (np.concatenate([one.ravel() for one in many]) for many in (masks, maps))
    assert localisation_scores(maps, masks, limit=0.3).pixel_auroc == pytest.approx(roc_auc_score(labels, values))


def test_perfect_map_has_area_one_and_constant_map_half_of_the_limit() -> None:
    mask = np.zeros((8, 13), dtype=bool)
    mask[2:4, 3:6] = mask[6, 10] = True
    perfect = localisation_scores([mask.astype(np.float32)], [mask], limit=0.3)
    assert (perfect.aupro, perfect.pixel_auroc, perfect.num_regions) == (1.0, 1.0, 2)
    flat = localisation_scores([np.ones((8, 13), dtype=np.float32)], [mask], limit=0.3)
    assert (flat.aupro, flat.pixel_auroc) == (pytest.approx(0.15), pytest.approx(0.5))


def test_small_region_counts_as_much_as_a_large_one() -> None:
    mask = np.zeros((10, 20), dtype=bool)
    mask[:5, :10] = mask[9, 19] = True
    large_alone = np.where(mask, 1.0, 0.0).astype(np.float32)
    large_alone[9, 19] = -1.0  # found last of all, behind every other pixel
    assert localisation_scores([large_alone], [mask], limit=0.3).aupro == pytest.approx(0.5)
    small_alone = np.where(mask, -1.0, 0.0).astype(np.float32)
    small_alone[9, 19] = 1.0
    assert localisation_scores([small_alone], [mask], limit=0.3).aupro == pytest.approx(0.5)


@pytest.mark.parametrize("value", [True, False])
def test_masks_of_one_kind_are_refused(value: bool) -> None:
    with pytest.raises(DataError, match="lack one of them"):
        localisation_scores([np.ones((3, 5), dtype=np.float32)], [np.full((3, 5), value)], limit=0.3)


def test_sizes_must_agree() -> None:
    with pytest.raises(DataError, match="1 anomaly maps and 2 masks"):
        localisation_scores([np.ones((3, 5), dtype=np.float32)], [np.ones((3, 5), dtype=bool)] * 2, limit=0.3)
    with pytest.raises(DataError, match="its map's size"):
        localisation_scores([np.ones((3, 5), dtype=np.float32)], [np.ones((5, 3), dtype=bool)], limit=0.3)
