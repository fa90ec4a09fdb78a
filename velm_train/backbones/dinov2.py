"""RGB batches in, patch features of five depths out: a DINOv2 vision transformer, frozen.

DINOv2: Oquab et al. 2023, arXiv 2304.07193.

    (B, 3, H, W) -> patches of 14 x 14 -> block 3 -> 6 -> 9 -> 12 -> layernorm: each (B, C, H / 14, W / 14)
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float

from velm_train.backbones.protocol import FeatureMaps, LayerInfo, require_layers, require_multiple
from velm_train.backbones.quiet import quiet_transformers
from velm_train.core.errors import AssetError
from velm_train.core.hashing import sha256_file, sha256_json

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
"""ImageNet statistics of RGB in 0..1, with which the model was trained."""

_DEPTHS = (3, 6, 9, 12)
_FINAL = "final"


class Dinov2Backbone:
    """A Dinov2Model of twelve blocks as a `Backbone`; heights and widths are multiples of the patch size.

    Layers `block3`, `block6`, `block9`, `block12` are the tokens behind that block, counted from 1, and `final`
    those behind the last layernorm. The class token is left out. Position embeddings are interpolated to the
    image's grid as transformers does.
    """

    layers: Mapping[str, LayerInfo]

    def __init__(self, folder: Path, *, name: str, device: torch.device) -> None:
        """Loads the model without any network and freezes it.

        Args:
            folder: config.json and model.safetensors in the layout of transformers.
            name: what errors call it.
            device: where the features are computed.

        Raises:
            AssetError: if the weights are not exactly those of the model.
        """
        from transformers import Dinov2Model  # noqa: PLC0415 - slow to import, and not every run has a transformer

        self._name = name
        with quiet_transformers():
            self.model, report = Dinov2Model.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
            )
        if any(report[problem] for problem in ("missing_keys", "unexpected_keys", "mismatched_keys")):
            raise AssetError(
                f"{folder}: the weights do not fit Dinov2Model ({report}); delete the folder and run again"
            )
        self.model.eval().requires_grad_(requires_grad=False).to(device)
        self._patch_size: int = self.model.config.patch_size
        info = LayerInfo(channels=self.model.config.hidden_size, stride=self._patch_size)
        self.layers = dict.fromkeys((*(f"block{depth}" for depth in _DEPTHS), _FINAL), info)
        self.identity = sha256_json(
            {
                "model": "dinov2",
                "weights": sha256_file(folder / "model.safetensors"),
                "config": sha256_file(folder / "config.json"),
                "preprocessing": {"mean": _MEAN, "std": _STD},
            }
        )
        self._mean = torch.tensor(_MEAN, device=device).reshape(3, 1, 1)
        self._std = torch.tensor(_STD, device=device).reshape(3, 1, 1)

    @torch.no_grad()
    def features(self, images: Float[torch.Tensor, "B 3 H W"], *, layers: Sequence[str]) -> FeatureMaps:
        """Returns the maps of the layers asked for; blocks behind the deepest of them are not computed.

        Raises:
            ConfigError: if a layer is unknown.
            DataError: if height or width is no multiple of the patch size.
        """
        require_layers(layers, self.layers, backbone=self._name)
        height, width = images.shape[-2:]
        require_multiple(height, width, of=self._patch_size, backbone=self._name)
        pixels = (images.to(self._mean.device, torch.float32) - self._mean) / self._std
        tokens = self._tokens(pixels, layers=layers)
        shape = (images.shape[0], -1, height // self._patch_size, width // self._patch_size)
        return {layer: tokens[layer][:, 1:].mT.reshape(shape).contiguous() for layer in layers}

    def _tokens(self, pixels: Float[torch.Tensor, "B 3 H W"], *, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        """Returns the tokens (B, 1 + h * w, C) behind every block up to the deepest one asked for."""
        blocks = self.model.encoder.layer
        deepest = len(blocks) if _FINAL in layers else max(int(layer.removeprefix("block")) for layer in layers)
        hidden = self.model.embeddings(pixels)
        tokens: dict[str, torch.Tensor] = {}
        for depth, block in enumerate(blocks[:deepest], start=1):
            hidden = block(hidden)
            tokens[f"block{depth}"] = hidden
        if _FINAL in layers:
            tokens[_FINAL] = self.model.layernorm(hidden)
        return tokens
