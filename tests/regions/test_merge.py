"""Grouping of near components, against all pairs of pixels."""

import numpy as np
from scipy import ndimage
from scipy.spatial.distance import cdist

from velm_train.regions.merge import Component, merge_near


def components_of(labels: np.ndarray) -> list[Component]:
    return [
        Component(
            label=index,
            box_xyxy=(columns.start, rows.start, columns.stop, rows.stop),
            area_px=int((labels == index).sum()),
            peak_score=0.0,
        )
        for index, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1)
    ]


def groups_by_all_pairs(labels: np.ndarray, distance_px: int) -> set[frozenset[int]]:
    groups = [{index} for index in range(1, int(labels.max()) + 1)]
    pixels = [np.argwhere(labels == index) for index in range(1, int(labels.max()) + 1)]
    for one in range(len(pixels)):
        for other in range(one + 1, len(pixels)):
            if cdist(pixels[one], pixels[other]).min() < distance_px:
                joined = next(g for g in groups if one + 1 in g) | next(g for g in groups if other + 1 in g)
                groups = [g for g in groups if not g & joined] + [joined]
    return {frozenset(group) for group in groups}


def test_groups_equal_those_of_all_pixel_pairs():
    for seed in range(6):
        noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((40, 70)), 1.5)
        labels, _ = ndimage.label(noise > 0.25, structure=np.ones((3, 3)))
        for distance_px in (0, 2, 3, 4, 7, 30):
            found = merge_near(components_of(labels), labels, merge_distance_px=distance_px)
            assert {frozenset(c.label for c in group) for group in found} == groups_by_all_pairs(labels, distance_px)


def test_gap_equal_to_the_distance_is_not_merged():
    labels = np.zeros((5, 12), dtype=np.int32)
    labels[2, 1], labels[2, 5] = 1, 2
    assert len(merge_near(components_of(labels), labels, merge_distance_px=4)) == 2
    assert len(merge_near(components_of(labels), labels, merge_distance_px=5)) == 1
