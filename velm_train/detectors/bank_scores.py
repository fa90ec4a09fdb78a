"""Patch features and a memory bank go in; an anomaly map and a score for every image come out."""

from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter
from torch import Tensor

from velm_train.detectors.neighbours import MemoryBank
from velm_train.detectors.patch_features import PatchFeatures
from velm_train.detectors.protocol import RawDetection
from velm_train.detectors.scores import top_mean
from velm_train.detectors.settings import PatchCoreSettings


def score_patches(
    features: PatchFeatures,
    bank: MemoryBank,
    *,
    settings: PatchCoreSettings,
    scales: Float[Tensor, " L"],
    left_out: Bool[Tensor, " M"] | None = None,
) -> list[RawDetection]:
    """Scores images by the distances of their patches to the bank.

    Args:
        features: in the units of the bank's vectors.
        bank: of the good images.
        settings: smoothing, share of the map that is the score, and the weight.
        scales: factor of each layer in the distance.
        left_out: vectors of the bank that are not there.
    """
    num_images, num_patches = features.values.shape[:2]
    distances, rows = bank.nearest(features.values.flatten(0, 1), scales=scales, left_out=left_out)
    maps = distances.reshape(num_images, *features.grid_hw).cpu().numpy()
    if settings.smoothing_sigma > 0:
        maps = gaussian_filter(maps, settings.smoothing_sigma, mode="nearest", axes=(1, 2))
    worst = distances.reshape(num_images, num_patches).argmax(dim=1)
    detections = []
    for index, patch in enumerate(worst.tolist()):
        score = top_mean(maps[index], settings.score_top_fraction)
        if settings.reweight:
            score *= bank.neighbourhood_weight(
                features.values[index, patch],
                nearest_row=int(rows[index * num_patches + patch]),
                num_neighbours=settings.num_neighbours,
                scales=scales,
                left_out=left_out,
            )
        detections.append(RawDetection(anomaly_score=score, anomaly_map=maps[index]))
    return detections
