"""Images go in; one locally aware feature vector per patch of the finest chosen layer comes out."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from velm_train.backbones.preprocess import resize_batch
from velm_train.backbones.protocol import Backbone
from velm_train.core.errors import ConfigError, DataError
from velm_train.core.records import SizeHW
from velm_train.detectors.protocol import RGBImages

_NUM_READERS = 2
"""Threads that read the next batch of images while the backbone looks at the present one."""


@dataclass(frozen=True, kw_only=True)
class PatchFeatures:
    """Features of a batch of images, layers side by side, each in its own units.

    Attributes:
        values: float32; patches row by row.
        grid_hw: patch rows and columns, P = h * w.
    """

    values: Float[Tensor, "B P C"]
    grid_hw: SizeHW


class PatchExtractor:
    """Runs a frozen backbone and makes patch features as PatchCore does (Roth et al. 2022, section 3.1)."""

    def __init__(
        self,
        backbone: Backbone,
        *,
        layers: Sequence[str],
        input_hw: SizeHW,
        batch_size: int,
        device: torch.device,
        half_precision: bool,
    ) -> None:
        """Checks the layers against the backbone.

        Raises:
            ConfigError: if a layer is unknown or none is named.
        """
        unknown = [layer for layer in layers if layer not in backbone.layers]
        if unknown or not layers:
            raise ConfigError(
                f"detector layers {list(layers)} on backbone {backbone.identity}: unknown {unknown}; "
                f"name at least one of {sorted(backbone.layers)}"
            )
        self._backbone = backbone
        self._layers = tuple(layers)
        self._input_hw = input_hw
        self._batch_size = batch_size
        self._device = device
        self._half_precision = half_precision
        self.channels = tuple(backbone.layers[layer].channels for layer in layers)

    def batches(self, images: RGBImages) -> list[range]:
        """Returns the index ranges in which a sequence of images is processed."""
        return [
            range(start, min(start + self._batch_size, len(images)))
            for start in range(0, len(images), self._batch_size)
        ]

    def stream(self, images: RGBImages) -> Iterator[PatchFeatures]:
        """Yields the patch features of all images in order, batch by batch; two batches of images are in memory."""
        batches = self.batches(images)
        with ThreadPoolExecutor(_NUM_READERS) as pool:
            waiting = pool.map(images.__getitem__, batches[0] if batches else ())
            for number in range(len(batches)):
                pictures = list(waiting)
                waiting = pool.map(images.__getitem__, batches[number + 1] if number + 1 < len(batches) else ())
                yield self(pictures)

    @torch.inference_mode()
    def __call__(self, images: RGBImages) -> PatchFeatures:
        """Returns the patch features of one batch.

        Every layer is averaged over 3x3 neighbours (the image's edge does not count as zeros), brought to the finest
        layer's grid bilinearly, and set beside the others.

        Raises:
            DataError: if the backbone returns values that are not finite.
        """
        maps = self._maps(images)
        grid_hw = max(((layer.shape[2], layer.shape[3]) for layer in maps), key=math.prod)
        values = torch.empty(len(images), math.prod(grid_hw), sum(self.channels), device=self._device)
        finite = []
        for index in range(len(images)):  # one by one, so that what lies between takes little memory
            parts = []
            for layer in maps:
                averaged = F.avg_pool2d(
                    layer[index : index + 1].float(), 3, stride=1, padding=1, count_include_pad=False
                )
                if averaged.shape[2:] != grid_hw:
                    averaged = F.interpolate(averaged, size=grid_hw, mode="bilinear", align_corners=False)
                parts.append(averaged.flatten(2)[0].T)  # (P, C_layer)
            torch.cat(parts, dim=1, out=values[index])
            finite.append(torch.isfinite(values[index]).all())
        if not bool(torch.stack(finite).all()):
            raise DataError(
                f"backbone {self._backbone.identity} gave features that are not finite; "
                f"check its weights and the images"
            )
        return PatchFeatures(values=values, grid_hw=grid_hw)

    def _maps(self, images: RGBImages) -> list[Float[Tensor, "B _ _ _"]]:
        """Returns the maps of every layer, in the order of the layers."""
        pixels = resize_batch(list(images), self._input_hw).to(self._device)
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._half_precision):
            maps = self._backbone.features(pixels, layers=self._layers)
        return [maps[layer] for layer in self._layers]

    def mean_norms(self, values: Float[Tensor, "B P C"]) -> Float[Tensor, "B L"]:
        """Returns the mean L2 norm of each layer's part over an image's patches, float64."""
        parts = torch.split(values, list(self.channels), dim=2)
        return torch.stack([torch.linalg.vector_norm(part, dim=2).double().mean(dim=1) for part in parts], dim=1)

    def own_scales(self, mean_norms: Float[Tensor, " L"]) -> Float[Tensor, " L"]:
        """Returns the factors that give one image's layers a mean norm of 1; 0 for a layer that is zero there."""
        return torch.where(mean_norms > 0, 1 / mean_norms, 0).float()

    def channel_scales(self, mean_norms: Float[Tensor, "I L"]) -> Float[Tensor, " C"]:
        """Returns the layers' factors for every channel.

        Raises:
            DataError: if a layer is zero on every image.
        """
        scales = self.layer_scales(mean_norms)
        return torch.repeat_interleave(scales, torch.tensor(self.channels, device=scales.device))

    def layer_scales(self, mean_norms: Float[Tensor, "I L"]) -> Float[Tensor, " L"]:
        """Returns the factor of every layer that gives it a mean norm of 1 over the images.

        Without it the layer with the largest activations alone would decide the distances.

        Raises:
            DataError: if a layer is zero on every image.
        """
        means = mean_norms.mean(dim=0)
        if bool((means <= 0).any()):
            raise DataError(f"a layer of {list(self._layers)} is zero on every image; choose other layers")
        return (1 / means).float()
