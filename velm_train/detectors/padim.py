"""PaDiM: good images go in as one Gaussian for each place; Mahalanobis distances come out as maps and scores.

    images -> patch features (I, P, C) -> D channels drawn at random -> mean (P, D), covariance (P, D, D)
    image  -> patch features (P, D) -> Mahalanobis distance at every place (P,) -> map -> smoothed -> score

After Defard et al. 2021, "PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection and Localization", ICPR,
arXiv 2011.08785, equations 1 and 2. Three things differ: each layer is scaled so that the mean square of a channel is
1, which gives the regularisation the same meaning for every backbone; features are averaged over 3 x 3 patches as in
PatchCore; and the map is smoothed on the grid of patches.
"""

import math
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from velm_train.backbones.protocol import Backbone
from velm_train.core.seeding import generator
from velm_train.detectors.moment_detector import MomentDetector, NormalModel
from velm_train.detectors.moment_settings import PadimSettings
from velm_train.detectors.moments import Moments

PADIM_VERSION: Final = 3
"""Raised when the same inputs and settings give another output."""


class Padim(MomentDetector):
    """One Gaussian a patch of the grid; for parts that lie still under the camera.

    Memory and the fitted state are of the order of P x D x D numbers, however many images are fitted. Every group that
    is left out costs P Cholesky decompositions, of the order of P x D^3 operations.
    """

    def __init__(
        self, backbone: Backbone, settings: PadimSettings, *, device: torch.device, batch_size: int = 8
    ) -> None:
        """Checks the settings against the backbone and draws the channels; nothing is computed.

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
            name="padim",
            version=PADIM_VERSION,
            model_names=("scales", "mean", "whitening"),
            device=device,
            batch_size=batch_size,
        )
        self._regularisation = settings.regularisation
        num_channels = sum(self._extract.channels)
        drawn = generator(settings.seed, "padim", "channels").permutation(num_channels)[: settings.num_channels]
        self._channels = torch.from_numpy(drawn).sort().values.to(device)
        widths = torch.tensor([math.sqrt(width) for width in self._extract.channels for _ in range(width)])
        self._root_widths = widths.double().to(device)[self._channels]

    def _vectors(self, values: Float[Tensor, "B P C"]) -> Float[Tensor, "P B C"]:
        return values.transpose(0, 1)

    def _scales(self, mean_norms: Float[Tensor, "I L"]) -> Float[Tensor, " C"]:
        return super()._scales(mean_norms) * self._root_widths

    def _build(self, moments: Moments, scales: Float[Tensor, " C"]) -> dict[str, Tensor]:
        covariance = moments.covariance() * scales[:, None] * scales
        covariance.diagonal(dim1=1, dim2=2).add_(self._regularisation)
        factor = torch.linalg.cholesky(covariance)
        unit = torch.eye(len(scales), dtype=factor.dtype, device=factor.device)
        return {
            "scales": scales,
            "mean": moments.mean() * scales,
            # |W (x - mean)| is the distance, because W = L^-1 and the covariance is L L^T.
            "whitening": torch.linalg.solve_triangular(factor, unit, upper=False).float(),
        }

    def _distances(self, values: Float[Tensor, "P C"], model: NormalModel) -> Float[Tensor, " P"]:
        centred = (values * model["scales"] - model["mean"]).float()
        distances: Tensor = torch.linalg.vector_norm((model["whitening"] @ centred[:, :, None])[:, :, 0], dim=1)
        return distances
