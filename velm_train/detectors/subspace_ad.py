"""SubspaceAD: good images go in as one linear subspace of patch features; distances to it come out as maps and scores.

    images -> patch features (I * P, C) -> mean, covariance -> principal directions (C, K)
    image  -> patch features (P, C) -> length of what the K directions cannot explain (P,) -> map -> smoothed -> score

After Lendering, Akdag and Bondarev 2026, "SubspaceAD: Training-Free Few-Shot Anomaly Detection via Subspace Modeling",
CVPR, arXiv 2602.23013. Four things differ: layers stand side by side, each scaled to a mean norm of 1, where the paper
averages seven middle blocks; features are averaged over 3 x 3 patches as in PatchCore; the distance is not squared; and
no turned copies are fitted.
"""

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from velm_train.backbones.protocol import Backbone
from velm_train.detectors.moment_detector import MomentDetector, NormalModel
from velm_train.detectors.moment_settings import SubspaceAdSettings
from velm_train.detectors.moments import Moments

SUBSPACE_AD_VERSION: Final = 3
"""Raised when the same inputs and settings give another output."""


class SubspaceAd(MomentDetector):
    """The distance of a patch to the principal subspace of all good patches, wherever they lie in the image.

    The fitted state is C x K numbers, however many images are fitted. Every group that is left out costs one
    eigendecomposition, of the order of C^3 operations, and C x C numbers of memory.
    """

    def __init__(
        self, backbone: Backbone, settings: SubspaceAdSettings, *, device: torch.device, batch_size: int = 8
    ) -> None:
        """Checks the settings against the backbone; nothing is computed.

        Args:
            backbone: frozen encoder, already on `device`.
            settings: everything that changes the output.
            device: where features and distances are computed.
            batch_size: images at a time through the backbone.

        Raises:
            ConfigError: if a layer is not the backbone's.
        """
        super().__init__(
            backbone,
            settings,
            name="subspace_ad",
            version=SUBSPACE_AD_VERSION,
            model_names=("scales", "mean", "directions"),
            device=device,
            batch_size=batch_size,
        )
        self._settings = settings

    def _vectors(self, values: Float[Tensor, "B P C"]) -> Float[Tensor, "1 N C"]:
        return values.flatten(0, 1)[None]

    def _build(self, moments: Moments, scales: Float[Tensor, " C"]) -> dict[str, Tensor]:
        covariance = moments.covariance()[0] * scales[:, None] * scales
        variances, directions = torch.linalg.eigh(covariance)  # ascending
        variances, directions = variances.flip(0).clamp(min=0), directions.flip(1)
        num_components = self._num_components(variances, mean_square=self._mean_square(moments, scales))
        return {
            "scales": scales,
            "mean": moments.mean()[0] * scales,
            "directions": directions[:, :num_components].contiguous(),
        }

    @staticmethod
    def _mean_square(moments: Moments, scales: Float[Tensor, " C"]) -> float:
        """Returns the mean squared length of the scaled vectors."""
        return float((moments.outer[0].diagonal() * scales.square()).sum()) / moments.count

    def _num_components(self, variances: Float[Tensor, " C"], *, mean_square: float) -> int:
        """Returns the smallest number of directions that explain the share asked for, below C and the limit.

        One direction at least stays unexplained, or no patch could ever deviate; none is kept of a variance that is
        mere rounding.
        """
        variance = float(variances.sum())
        if variance <= len(variances) * torch.finfo(variances.dtype).eps * mean_square:
            return 0
        explained = variances.cumsum(0) / variance
        wanted = int((explained < self._settings.explained_variance).sum()) + 1
        return min(wanted, self._settings.max_components, len(variances) - 1)

    def _distances(self, values: Float[Tensor, "P C"], model: NormalModel) -> Float[Tensor, " P"]:
        centred = values * model["scales"] - model["mean"]
        unexplained = centred - centred @ model["directions"] @ model["directions"].mT
        distances: Tensor = torch.linalg.vector_norm(unexplained, dim=1)
        return distances
