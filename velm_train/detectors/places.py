"""Anomaly maps of good images go in; what keeps the edge of another image's map from outweighing its inside comes out.

Patches near the edge see padding in place of neighbours. Their features differ from all others, and few others are
like them, so that even good images lie far from normal there, and most of all in the corners.

    left-out maps of good images -> mean and deviation of every class of places -> map of another image, made even
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from velm_train.core.records import SizeHW
from velm_train.core.shapes import AnomalyMap

_MAX_DEPTH = 5
"""Cells from the edge at which a place counts as inside: as far as padding reached with the embedded backbones."""

_MIN_GAIN = 0.25
"""No place is damped more than fourfold, however few the good images that say how it varies."""


def place_classes(grid_hw: SizeHW) -> Int[np.ndarray, "h w"]:
    """Returns a number for every cell, equal for cells that lie alike towards the edges; the largest is the inside.

    A class is told by the distances to the nearest horizontal and vertical edge, in either order, each counted up to
    five cells, or fewer where that would leave less than a third of the shorter side inside.
    """
    depth = min(_MAX_DEPTH, (min(grid_hw) - 1) // 3)
    rows, columns = (np.minimum(np.arange(side), np.arange(side)[::-1]).clip(max=depth) for side in grid_hw)
    near, far = np.minimum(rows[:, None], columns), np.maximum(rows[:, None], columns)
    return np.unique(near * (depth + 1) + far, return_inverse=True)[1].reshape(grid_hw)


@dataclass(frozen=True, kw_only=True)
class PlaceYardstick:
    """What left-out good images show at every class of places, in the order of `place_classes`.

    Attributes:
        mean: of the map's values.
        deviation: their standard deviation over places and images.
    """

    mean: Float[np.ndarray, " classes"]
    deviation: Float[np.ndarray, " classes"]

    @staticmethod
    def of(maps: Float[np.ndarray, "I h w"]) -> "PlaceYardstick":
        """Returns the yardstick of at least one map."""
        classes = place_classes((maps.shape[1], maps.shape[2])).ravel()
        values = maps.reshape(len(maps), -1).astype(np.float64)
        count = np.bincount(classes) * len(maps)
        mean = np.bincount(classes, weights=values.sum(axis=0)) / count
        squares = np.bincount(classes, weights=np.square(values - mean[classes]).sum(axis=0))
        return PlaceYardstick(mean=mean, deviation=np.sqrt(squares / count))

    def even(self, anomaly_map: AnomalyMap) -> AnomalyMap:
        """Returns the map with each value as it would be inside the picture, where that is smaller.

        A value x at a place of class c becomes `min(x, m_in + g (x - m_c))`, at least 0, with means m, standard
        deviations s and the gain `g = s_in / s_c`, between 1/4 and 1. No value is raised: where nothing but background
        lies at the edge, its small deviations stay small.
        """
        smallest = np.finfo(np.float32).tiny
        gain = ((self.deviation[-1] + smallest) / (self.deviation + smallest)).clip(_MIN_GAIN, 1)
        classes = place_classes((anomaly_map.shape[0], anomaly_map.shape[1]))
        inside = self.mean[-1] + gain[classes] * (anomaly_map - self.mean[classes])
        even: AnomalyMap = np.minimum(anomaly_map, inside.clip(min=0).astype(np.float32))
        return even
