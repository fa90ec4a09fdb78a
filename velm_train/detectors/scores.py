"""Anomaly maps in, image-level scores out: the top of a map, its mean, and both against what is usual."""

import math

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter

from velm_train.core.errors import GateError
from velm_train.core.shapes import AnomalyMap
from velm_train.detectors.protocol import RawDetection


def top_mean(anomaly_map: AnomalyMap, top_fraction: float) -> float:
    """Returns the mean of the largest values: a share of the cells, at least one cell."""
    num_cells = max(1, math.ceil(top_fraction * anomaly_map.size))
    return float(np.partition(anomaly_map.ravel(), -num_cells)[-num_cells:].mean(dtype=np.float64))


def smoothed(maps: Float[np.ndarray, "*images h w"], sigma: float) -> Float[np.ndarray, "*images h w"]:
    """Returns maps after a Gaussian; what lies beyond the edge is unknown and counts as the map's own median.

    To repeat the cells at the edge instead would count them several times: the average would vary more at the edge
    than inside, and its largest value would lie there too often. The mean in place of the median would let a large
    defect raise the edge all around the picture.

    Args:
        maps: one or several.
        sigma: in cells; 0 smooths nothing.
    """
    if sigma == 0:
        return maps
    medians = np.median(maps, axis=(-2, -1), keepdims=True).astype(maps.dtype)
    smooth: Float[np.ndarray, "*images h w"] = gaussian_filter(maps - medians, sigma, mode="constant", axes=(-2, -1))
    smooth += medians
    return smooth


def score_map(distances: AnomalyMap, *, smoothing_sigma: float, top_fraction: float) -> RawDetection:
    """Smooths a map of distances and reads the score off it, so that score and map speak of the same place.

    Args:
        distances: one value a patch.
        smoothing_sigma: of the Gaussian, in patches; 0 smooths nothing.
        top_fraction: the score is the mean of this share of the largest values; 0 is the maximum.
    """
    anomaly_map = smoothed(distances, smoothing_sigma)
    return RawDetection(anomaly_score=top_mean(anomaly_map, top_fraction), anomaly_map=anomaly_map)


def score_statistics(detection: RawDetection) -> tuple[float, float]:
    """Returns the score read off the top of the map and the map's mean."""
    return detection.anomaly_score, float(detection.anomaly_map.mean(dtype=np.float64))


def standardised(detection: RawDetection, *, yardstick: Float[np.ndarray, "images 2"]) -> RawDetection:
    """Returns the detection with the larger of its two statistics in standard deviations from what is usual.

    Args:
        detection: scored by the top of its map.
        yardstick: statistics of good images, each when left out. A left-out image is measured against the others, so
            that its score is out-of-sample here too.

    Raises:
        GateError: if fewer than two images say what is usual.
    """
    if len(yardstick) < 2:
        raise GateError(
            "detector.score_diffuse measures scores against at least 2 other good images; "
            "fit more images or set detector.score_diffuse=false"
        )
    spread = np.maximum(yardstick.std(axis=0), np.finfo(np.float32).eps)
    score = ((np.array(score_statistics(detection)) - yardstick.mean(axis=0)) / spread).max()
    return RawDetection(anomaly_score=float(score), anomaly_map=detection.anomaly_map)
