"""Several frozen encoders go in; one encoder that offers the layers of all of them comes out."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch.nn import functional as F

from velm_train.backbones.protocol import Backbone, FeatureMaps, LayerInfo
from velm_train.core.errors import ConfigError
from velm_train.core.hashing import sha256_json


class JoinedBackbone:
    """Encoders side by side; a layer is called `<encoder>/<layer>`.

    Encoders divide images by different strides (14, 32), so that few sizes suit all of them. Each therefore gets the
    images at the nearest size that suits it; maps of slightly different grids are the caller's to align.
    """

    identity: str
    layers: Mapping[str, LayerInfo]

    def __init__(self, backbones: Mapping[str, Backbone]) -> None:
        """Joins encoders by name; the order of the names does not matter.

        Raises:
            ConfigError: if there is none.
        """
        if not backbones:
            raise ConfigError("detector.backbones is empty; name at least one backbone")
        self._backbones = dict(backbones)
        self.identity = sha256_json({name: backbone.identity for name, backbone in backbones.items()})
        self.layers = {
            f"{name}/{layer}": info for name, backbone in backbones.items() for layer, info in backbone.layers.items()
        }

    def features(self, images: Float[torch.Tensor, "B 3 H W"], *, layers: Sequence[str]) -> FeatureMaps:
        """Returns the maps of the layers asked for, each of its own grid.

        Args:
            images: RGB in 0..1.
            layers: names out of `self.layers`.

        Raises:
            ConfigError: if a layer is unknown or none is asked for.
        """
        unknown = [layer for layer in layers if layer not in self.layers]
        if unknown or not layers:
            raise ConfigError(f"layers {list(layers)}: unknown {unknown}; name at least one of {sorted(self.layers)}")
        maps: FeatureMaps = {}
        for name, backbone in self._backbones.items():
            asked = [layer.removeprefix(f"{name}/") for layer in layers if layer.startswith(f"{name}/")]
            if asked:
                found = backbone.features(_resized_for(backbone, images), layers=asked)
                maps |= {f"{name}/{layer}": values for layer, values in found.items()}
        return {layer: maps[layer] for layer in layers}


def _resized_for(backbone: Backbone, images: Float[torch.Tensor, "B 3 H W"]) -> torch.Tensor:
    """Returns the images at the nearest size that is a multiple of the encoder's largest stride."""
    stride = max(info.stride for info in backbone.layers.values())
    height, width = (max(stride, round(side / stride) * stride) for side in images.shape[-2:])
    if (height, width) == tuple(images.shape[-2:]):
        return images
    return F.interpolate(images, size=(height, width), mode="bilinear", align_corners=False, antialias=True)
