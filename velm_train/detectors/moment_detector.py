"""What SubspaceAD and PaDiM share: good images go in as moments of patch features, and can be taken out again exactly.

images -> patch features (I, P, C) -> moments: count, sum, outer products ----> normal model -> distances -> map
                                          minus those of one group ----> model without it -> out-of-sample map
"""

import dataclasses
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import overload

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from velm_train.backbones.protocol import Backbone
from velm_train.core.hashing import sha256_json
from velm_train.core.records import CalibrationKind, SizeHW
from velm_train.detectors.feature_file import FeatureFile
from velm_train.detectors.fitted_state import LEFT_OUT_NAMES, FittedState, pack_left_out, unpack_left_out
from velm_train.detectors.moment_settings import MomentSettings
from velm_train.detectors.moments import Moments
from velm_train.detectors.patch_features import PatchExtractor
from velm_train.detectors.protocol import Need, RawDetection, RGBImages
from velm_train.detectors.scores import score_map, standardised
from velm_train.detectors.state import array_to_text, group_numbers, require_images, text_to_array

logger = logging.getLogger(__name__)

NormalModel = Mapping[str, Tensor]
"""What a detector of this kind learns from moments, by name."""


class _Reordered(Sequence[UInt8[np.ndarray, "_ _ 3"]]):
    """Lazy images in another order; still read on access."""

    def __init__(self, images: RGBImages, order: Sequence[int]) -> None:
        self._images = images
        self._order = order

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, index: int) -> UInt8[np.ndarray, "_ _ 3"]: ...
    @overload
    def __getitem__(self, index: slice) -> "_Reordered": ...
    def __getitem__(self, index: int | slice) -> "UInt8[np.ndarray, '_ _ 3'] | _Reordered":
        if isinstance(index, slice):
            return _Reordered(self._images, self._order[index])
        return self._images[self._order[index]]


class MomentDetector(ABC):
    """A detector whose normal model is a function of the moments of patch features.

    Leaving a group out is exact: its moments are subtracted in float64, its images have no say in the layers' scales,
    and the model is made anew from what remains. That equals fitting without the group to rounding. Each image is read
    once; features wait in a temporary file, so that memory does not grow with the number of images.
    """

    needs: frozenset[Need] = frozenset({"normals"})
    transductive = False
    calibration: CalibrationKind = "leave_one_out"

    def __init__(
        self,
        backbone: Backbone,
        settings: MomentSettings,
        *,
        name: str,
        version: int,
        model_names: Sequence[str],
        device: torch.device,
        batch_size: int,
    ) -> None:
        """Checks the settings against the backbone; nothing is computed.

        Args:
            backbone: frozen encoder, already on `device`.
            settings: everything that changes the output.
            name: of the method.
            version: of its code.
            model_names: what `_build` returns.
            device: where features and distances are computed.
            batch_size: images at a time through the backbone.

        Raises:
            ConfigError: if a layer is not the backbone's.
        """
        self._extract = PatchExtractor(
            backbone,
            layers=settings.layers,
            input_hw=settings.input_hw,
            batch_size=batch_size,
            device=device,
            half_precision=settings.half_precision,
        )
        self._shared = settings
        self._name = name
        self._model_names = tuple(model_names)
        self._device = device
        self._channels = torch.arange(sum(self._extract.channels), device=device)
        self.settings_hash = sha256_json(
            {
                "detector": name,
                "version": version,
                "backbone": backbone.identity,
                "settings": dataclasses.asdict(settings),
            }
        )
        self._fitted = FittedState(self.settings_hash)
        self._model: NormalModel = {}

    @property
    def identity(self) -> str:
        """Hash of settings and fitted state; before `fit`, of the settings and no state."""
        return self._fitted.identity

    @property
    def fitted_image_ids(self) -> list[str]:
        """Ids of the fitted images in order.

        Raises:
            GateError: if the detector is not fitted.
        """
        return list(json.loads(array_to_text(self._fitted.arrays()["image_ids"])))

    @torch.inference_mode()
    def fit(self, images: RGBImages, *, image_ids: Sequence[str], group_ids: Sequence[str]) -> None:
        """Learns what is normal, and scores every image against what is learnt without its group.

        Args:
            images: good images.
            image_ids: one distinct id an image, in order.
            group_ids: the physical part each image shows, in order.

        Raises:
            DataError: if there is no image, ids are missing or repeated, or features are not finite.
            GateError: if `score_diffuse` has too few images to measure against.
        """
        require_images(images, image_ids=image_ids, group_ids=group_ids)
        groups = group_numbers(group_ids)
        order = np.argsort(groups, kind="stable")  # images of one group lie side by side in the file
        with FeatureFile(num_images=len(images)) as file:
            total, mean_norms, grid_hw = self._read(_Reordered(images, order.tolist()), file)
            model = self._build(total, self._scales(mean_norms))
            in_file = list(self._leave_out(file, np.bincount(groups).tolist(), total, mean_norms, grid_hw=grid_hw))
        left_out = [in_file[place] for place in np.argsort(order)] if in_file else []
        arrays = {name: model[name].cpu().contiguous().numpy() for name in self._model_names}
        packed = pack_left_out(left_out, groups=groups, score_diffuse=self._shared.score_diffuse)
        self._fitted.keep({**arrays, "image_ids": text_to_array(json.dumps(list(image_ids))), **packed})
        self._model = self._read_model()
        logger.info("%s: fitted on %d images of %d parts", self._name, len(images), int(groups.max()) + 1)

    @torch.inference_mode()
    def detect(self, images: RGBImages, *, image_ids: Sequence[str]) -> list[RawDetection]:
        """Scores images that had no part in `fit`.

        Raises:
            GateError: if the detector is not fitted.
        """
        del image_ids
        yardstick = self._fitted.arrays()["loo_statistics"]
        found = [
            self._score(values, self._model, grid_hw=features.grid_hw)
            for features in self._extract.stream(images)
            for values in features.values[..., self._channels]
        ]
        return [standardised(one, yardstick=yardstick) for one in found] if self._shared.score_diffuse else found

    def out_of_sample(self) -> list[RawDetection]:
        """Returns the score of every fitted image as if its group had not been fitted, in the order of `fit`.

        Raises:
            GateError: if the detector is not fitted, or on a single group.
        """
        return unpack_left_out(self._fitted.arrays())

    def state(self) -> dict[str, np.ndarray]:
        """Returns the normal model, ids and out-of-sample results.

        Raises:
            GateError: if the detector is not fitted.
        """
        return self._fitted.arrays()

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores a fitted detector from what `state` returned.

        Raises:
            ArtifactError: if arrays are missing or unknown, or belong to other settings or another backbone.
        """
        self._fitted.restore(state, names=(*self._model_names, "image_ids", *LEFT_OUT_NAMES))
        self._model = self._read_model()

    @abstractmethod
    def _vectors(self, values: Float[Tensor, "B P C"]) -> Float[Tensor, "G N C"]:
        """Returns the features sorted by the Gaussian they belong to."""

    @abstractmethod
    def _build(self, moments: Moments, scales: Float[Tensor, " C"]) -> dict[str, Tensor]:
        """Returns the normal model; `scales` are factors of the channels, float64."""

    @abstractmethod
    def _distances(self, values: Float[Tensor, "P C"], model: NormalModel) -> Float[Tensor, " P"]:
        """Returns how far every patch lies from normal; `values` are float64, in the units of the features."""

    def _scales(self, mean_norms: Float[Tensor, "I L"]) -> Float[Tensor, " C"]:
        """Returns the factor of every kept channel that gives its layer a mean norm of 1, float64."""
        return self._extract.channel_scales(mean_norms).double()[self._channels]

    def _read_model(self) -> NormalModel:
        arrays = self._fitted.arrays()
        return {name: torch.from_numpy(arrays[name]).to(self._device) for name in self._model_names}

    def _read(self, images: RGBImages, file: FeatureFile) -> tuple[Moments, Float[Tensor, "I L"], SizeHW]:
        """Returns moments and layer norms of all images, and leaves their features in the file."""
        total, norms, grid_hw = None, [], (0, 0)
        for features in self._extract.stream(images):
            kept = features.values[..., self._channels]
            file.append(kept)
            norms.append(self._extract.mean_norms(features.values))
            moments = Moments.of(self._vectors(kept))
            total = moments if total is None else total + moments
            grid_hw = features.grid_hw
            del features, kept  # or they would lie beside the next ones
        assert total is not None, "require_images lets no empty set through"
        return total, torch.cat(norms), grid_hw

    def _leave_out(
        self,
        file: FeatureFile,
        group_sizes: Sequence[int],
        total: Moments,
        mean_norms: Float[Tensor, "I L"],
        *,
        grid_hw: SizeHW,
    ) -> Iterator[RawDetection]:
        """Yields every image in the order of the file, judged without its group; nothing for a single group."""
        if len(group_sizes) == 1:
            return
        to_subtract, to_score = file.blocks(1), file.blocks(1)
        start = 0
        for size in group_sizes:
            others = total
            for values in islice(to_subtract, size):
                others = others - Moments.of(self._vectors(values.to(self._device)))
            other_norms = torch.cat([mean_norms[:start], mean_norms[start + size :]])
            model = self._build(others, self._scales(other_norms))
            for values in islice(to_score, size):
                yield self._score(values[0].to(self._device), model, grid_hw=grid_hw)
            start += size

    def _score(self, values: Float[Tensor, "P C"], model: NormalModel, *, grid_hw: SizeHW) -> RawDetection:
        distances = self._distances(values.double(), model).float().reshape(grid_hw)
        return score_map(
            distances.cpu().numpy(),
            smoothing_sigma=self._shared.smoothing_sigma,
            top_fraction=self._shared.score_top_fraction,
        )
