"""Images go in; the feature maps of named backbone layers come out batch by batch, each as the backbone gives it."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from jaxtyping import Float
from torch import Tensor

from velm_train.backbones.preprocess import resize_batch
from velm_train.backbones.protocol import Backbone
from velm_train.core.errors import ConfigError, DataError
from velm_train.core.records import SizeHW
from velm_train.detectors.protocol import RGBImages

_NUM_READERS = 2
"""Threads that read the next batch of images while the backbone looks at the present one."""


class LayerMaps:
    """Runs a frozen backbone over images of any number; two batches of images are in memory."""

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
        """Checks the layers against the backbone; nothing is computed.

        Args:
            backbone: frozen encoder, already on `device`.
            layers: names out of the backbone's layers.
            input_hw: size in pixels to which images are resized.
            batch_size: images at a time.
            device: where the features are computed.
            half_precision: multiply the backbone's matrices in bfloat16; the maps are float32 in any case.

        Raises:
            ConfigError: if a layer is unknown or none is named.
        """
        unknown = [layer for layer in layers if layer not in backbone.layers]
        if unknown or not layers:
            raise ConfigError(
                f"detector.layers {list(layers)} on backbone {backbone.identity}: unknown {unknown}; "
                f"name at least one of {sorted(backbone.layers)}"
            )
        self._backbone = backbone
        self._layers = tuple(layers)
        self._input_hw = input_hw
        self._batch_size = batch_size
        self._device = device
        self._half_precision = half_precision

    def stream(self, images: RGBImages) -> Iterator[tuple[Float[Tensor, "B _ _ _"], ...]]:
        """Yields the maps (B, C, h, w) of every layer, in the order of the layers, batch by batch.

        Raises:
            DataError: if the backbone returns values that are not finite.
        """
        starts = range(0, len(images), self._batch_size)
        batches = [range(start, min(start + self._batch_size, len(images))) for start in starts]
        with ThreadPoolExecutor(_NUM_READERS) as pool:
            waiting = pool.map(images.__getitem__, batches[0] if batches else ())
            for number in range(len(batches)):
                pictures = list(waiting)
                waiting = pool.map(images.__getitem__, batches[number + 1] if number + 1 < len(batches) else ())
                yield self(pictures)

    @torch.no_grad()
    def __call__(self, images: RGBImages) -> tuple[Float[Tensor, "B _ _ _"], ...]:
        """Returns the maps (B, C, h, w) of one batch, float32, in the order of the layers.

        Raises:
            DataError: if the backbone returns values that are not finite.
        """
        pixels = resize_batch(list(images), self._input_hw).to(self._device)
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._half_precision):
            maps = self._backbone.features(pixels, layers=self._layers)
        ordered = tuple(maps[layer].float() for layer in self._layers)
        if not all(bool(torch.isfinite(values).all()) for values in ordered):
            raise DataError(
                f"backbone {self._backbone.identity} gave features that are not finite; "
                f"check its weights and the images"
            )
        return ordered
