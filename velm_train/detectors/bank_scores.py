"""Patch features and a memory bank go in; an anomaly map and a score for every image come out."""

from jaxtyping import Bool, Float
from torch import Tensor

from velm_train.detectors.neighbours import MemoryBank
from velm_train.detectors.patch_features import PatchFeatures
from velm_train.detectors.places import PlaceYardstick
from velm_train.detectors.protocol import RawDetection
from velm_train.detectors.scores import smoothed, top_mean
from velm_train.detectors.settings import PatchCoreSettings


def score_patches(
    features: PatchFeatures,
    bank: MemoryBank,
    *,
    settings: PatchCoreSettings,
    scales: Float[Tensor, " L"],
    left_out: Bool[Tensor, " M"] | None = None,
    yardstick: PlaceYardstick | None = None,
) -> list[RawDetection]:
    """Scores images by the distances of their patches to the bank.

    Args:
        features: in the units of the bank's vectors.
        bank: of the good images.
        settings: smoothing, share of the map that is the score, and the weight.
        scales: factor of each layer in the distance.
        left_out: vectors of the bank that are not there.
        yardstick: of the good images, to make the map even up to the edge; None leaves it as it is.
    """
    num_images, num_patches = features.values.shape[:2]
    distances, rows = bank.nearest(features.values.flatten(0, 1), scales=scales, left_out=left_out)
    maps = smoothed(distances.reshape(num_images, *features.grid_hw).cpu().numpy(), settings.smoothing_sigma)
    detections = []
    for index, anomaly_map in enumerate(maps):
        even = anomaly_map if yardstick is None else yardstick.even(anomaly_map)
        score = top_mean(even, settings.score_top_fraction)
        if settings.reweight:
            patch = int(even.argmax())
            score *= bank.neighbourhood_weight(
                features.values[index, patch],
                nearest_row=int(rows[index * num_patches + patch]),
                num_neighbours=settings.num_neighbours,
                scales=scales,
                left_out=left_out,
            )
        detections.append(RawDetection(anomaly_score=score, anomaly_map=even))
    return detections
