"""A backbone's name in, the frozen encoder out."""

import difflib
from typing import Literal, get_args

import torch

from velm_train.assets.library import AssetLibrary
from velm_train.backbones.dinov2 import Dinov2Backbone
from velm_train.backbones.efficientnet_lite import EfficientNetLiteBackbone
from velm_train.backbones.protocol import Backbone
from velm_train.backbones.timm_backbone import load_timm
from velm_train.backbones.transformers_backbone import load_transformers
from velm_train.core.errors import ConfigError

BackboneName = Literal["efficientnet_lite0", "dinov2_small"]
BACKBONE_NAMES: tuple[BackboneName, ...] = get_args(BackboneName)
"""The embedded encoders; each is an asset's name as well."""

BACKBONE_PATTERNS = ("timm/<model>", "timm/<model>@<file>", "timm/<model>@random", "transformers/<hub id or folder>")
"""The other names that `load_backbone` accepts."""

_CPU = torch.device("cpu")


def load_backbone(name: str, *, assets: AssetLibrary, device: torch.device = _CPU) -> Backbone:
    """Loads a frozen encoder in float32 and evaluation mode.

    Args:
        name: one of `BACKBONE_NAMES`, fetched on the first use, or after one of `BACKBONE_PATTERNS`, whose weights lie
            on this machine already.
        assets: where the embedded weights are found.
        device: where the features are computed.

    Raises:
        ConfigError: if the name is unknown.
        AssetError: if the weights cannot be had.
    """
    if name == "efficientnet_lite0":
        return EfficientNetLiteBackbone(assets.ensure(name) / "model.safetensors", device=device)
    if name == "dinov2_small":
        return Dinov2Backbone(assets.ensure(name), name=name, device=device)
    family, _, spec = name.partition("/")
    if family == "timm" and spec:
        return load_timm(spec, device=device)
    if family == "transformers" and spec:
        return load_transformers(spec, device=device)
    near = difflib.get_close_matches(name, BACKBONE_NAMES, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"unknown backbone {name!r}; known are {', '.join((*BACKBONE_NAMES, *BACKBONE_PATTERNS))}{hint}")
