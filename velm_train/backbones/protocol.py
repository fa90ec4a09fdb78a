"""Pictures in, feature maps of named layers out: what every frozen vision encoder offers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float

from velm_train.core.errors import ConfigError, DataError

FeatureMaps = dict[str, Float[torch.Tensor, "B _ _ _"]]
"""Layer name -> (B, C, h, w); every layer has its own C, h and w."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerInfo:
    """What a layer's feature map looks like: C channels, one cell every `stride` pixels."""

    channels: int
    stride: int


@runtime_checkable
class Backbone(Protocol):
    """A frozen vision encoder.

    Attributes:
        identity: hash of weights and preprocessing; equal identities give equal features.
        layers: the layers that can be asked for, shallow to deep.
    """

    identity: str
    layers: Mapping[str, LayerInfo]

    def features(self, images: Float[torch.Tensor, "B 3 H W"], *, layers: Sequence[str]) -> FeatureMaps:
        """Returns float32 feature maps without gradient, on the device of the weights.

        Args:
            images: RGB in 0..1, on any device.
            layers: names out of `self.layers`.

        Raises:
            ConfigError: if a layer is unknown or none is asked for.
            DataError: if a side of the images does not suit the encoder's stride.
        """
        ...


def require_layers(asked: Sequence[str], known: Mapping[str, LayerInfo], *, backbone: str) -> None:
    """Refuses layers that a backbone does not have.

    Raises:
        ConfigError: naming them and those that exist.
    """
    unknown = [name for name in asked if name not in known]
    if unknown or not asked:
        raise ConfigError(
            f"layers {list(asked)} of backbone {backbone}: unknown {unknown}; name at least one of {', '.join(known)}"
        )


def require_multiple(height: int, width: int, *, of: int, backbone: str) -> None:
    """Refuses image sizes that a backbone cannot divide into whole cells.

    Raises:
        DataError: naming the size and the nearest one that fits.
    """
    if height == 0 or width == 0 or height % of or width % of:
        nearest = [max(of, round(side / of) * of) for side in (height, width)]
        raise DataError(
            f"backbone {backbone} got images of {height}x{width} pixels; height and width have to be multiples of "
            f"{of}: resize to {nearest[0]}x{nearest[1]}"
        )
