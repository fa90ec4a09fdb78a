"""Components of one mask go in; groups of components that lie close together come out."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion
from scipy.spatial import cKDTree

from velm_train.core.records import BoxXYXY


@dataclass(frozen=True, kw_only=True, slots=True)
class Component:
    """One connected component of a mask.

    Attributes:
        label: its value in the label image.
        box_xyxy: half-open, original pixels.
        area_px: number of its pixels.
        peak_score: highest anomaly_map value inside, raw units.
    """

    label: int
    box_xyxy: BoxXYXY
    area_px: int
    peak_score: float


def merge_near(components: list[Component], labels: np.ndarray, *, merge_distance_px: int) -> list[list[Component]]:
    """Groups components whose nearest pixel centres are closer than a distance, directly or through others.

    Args:
        components: of the label image.
        labels: label image (H, W).
        merge_distance_px: Euclidean; 0 merges none (touching components are one already).

    Returns:
        Groups in the order of their first component.
    """
    parents = list(range(len(components)))
    trees: dict[int, cKDTree] = {}

    def root(index: int) -> int:
        while parents[index] != index:
            index = parents[index]
        return index

    def tree(index: int) -> cKDTree:
        if index not in trees:
            trees[index] = cKDTree(_border_pixels(components[index], labels))
        return trees[index]

    for first, second in _candidate_pairs(components, merge_distance_px):
        one, other = root(first), root(second)
        if one == other:
            continue
        gap = float(tree(first).query(tree(second).data)[0].min())
        if gap < merge_distance_px:
            parents[max(one, other)] = min(one, other)

    groups: dict[int, list[Component]] = {}
    for index, component in enumerate(components):
        groups.setdefault(root(index), []).append(component)
    return list(groups.values())


def _candidate_pairs(components: list[Component], distance_px: int) -> Iterator[tuple[int, int]]:
    """Yields the pairs whose boxes are closer than the distance; no other pair can be."""
    boxes = np.array([component.box_xyxy for component in components])
    first, last = boxes[:, :2], boxes[:, 2:] - 1
    for one in range(len(components) - 1):
        gaps = np.maximum(0, np.maximum(first[one] - last[one + 1 :], first[one + 1 :] - last[one]))  # (R, 2)
        for offset in np.flatnonzero(np.hypot(gaps[:, 0], gaps[:, 1]) < distance_px):
            yield one, one + 1 + int(offset)


def _border_pixels(component: Component, labels: np.ndarray) -> np.ndarray:
    """Returns the component's pixels (x, y) that touch its outside; the nearest pixel of two components is one."""
    x0, y0, x1, y1 = component.box_xyxy
    inside = np.pad(labels[y0:y1, x0:x1] == component.label, 1)
    rows, columns = np.nonzero(inside & ~binary_erosion(inside))
    return np.stack([columns + x0 - 1, rows + y0 - 1], axis=1)
