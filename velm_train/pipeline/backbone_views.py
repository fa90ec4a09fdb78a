"""A detector's frozen backbone in; the same encoder for views out, so that a classifier can read what the gate saw."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from jaxtyping import UInt8

from velm_train.backbones.protocol import Backbone
from velm_train.core.batch import VisionEvidence
from velm_train.core.hashing import sha256_json
from velm_train.core.records import SizeHW
from velm_train.detectors.patch_features import PatchExtractor

ENCODING_VERSION = 1
"""Raised when the same backbone and pictures give other evidence."""


class BackboneViews:
    """Encodes views as the detector encodes images: one tile, its input size, its layers, no depths beside them."""

    feature_dtype = torch.bfloat16

    def __init__(
        self,
        backbone: Backbone,
        *,
        layers: Sequence[str],
        input_hw: SizeHW,
        half_precision: bool,
        device: torch.device,
    ) -> None:
        """Prepares the extractor; arguments as the detector has them.

        Raises:
            ConfigError: if a layer is unknown or none is named.
        """
        self._extract = PatchExtractor(
            backbone,
            layers=layers,
            input_hw=input_hw,
            batch_size=1,  # of `stream`, which is not used: a call takes any number of views
            device=device,
            half_precision=half_precision,
        )
        self.evidence_identity = sha256_json(
            {
                "version": ENCODING_VERSION,
                "backbone": backbone.identity,
                "layers": list(layers),
                "input_hw": list(input_hw),
                "half_precision": half_precision,
            }
        )

    def evidence_shape(self, size_hw: SizeHW) -> tuple[int, int]:
        """Returns one tile, with as many patches for every size."""
        del size_hw
        return 1, self._num_patches

    @cached_property
    def _num_patches(self) -> int:
        """Known from a blank picture: layers may round the grid in ways of their own."""
        return self._extract([np.zeros((1, 1, 3), dtype=np.uint8)]).values.shape[1]

    def encode_views(self, views: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> VisionEvidence:
        """Returns the patch features of pictures of any size; `map_scores` are zero and there are no levels."""
        patches = self._extract(list(views))
        num_views, num_patches, _ = patches.values.shape
        final = patches.values.cpu()
        return VisionEvidence(
            final=final,
            levels=final.new_empty(0, num_views, num_patches, 1),
            grid_hw=torch.tensor([patches.grid_hw] * num_views),
            view_index=torch.arange(num_views),
            is_global=torch.ones(num_views, dtype=torch.bool),
            valid=torch.ones(num_views, num_patches, dtype=torch.bool),
            map_scores=torch.zeros(num_views, num_patches),
        )
