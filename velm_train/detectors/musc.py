"""MuSc: images go in together; each is scored by how few of the others share its patches.

    images -> maps of L layers (I, C, h, w) -> normalised -> means over r x r -> patches (I, P, C), once a layer and r
    patch  -> distance to every other image -> mean of the lowest share -> mean over layers and r -> map (h, w) -> score

After Li et al. 2024, "MuSc: Zero-Shot Industrial Anomaly Classification and Segmentation with Mutual Scoring of the
Unlabeled Images", ICLR. Three things differ. An image's embedding is the mean of its patch features in the last layer
named, because a backbone gives no class token. Scores are not brought to 0..1, which leaves their order as it is. And
a second mode compares an image with good images instead of the other images to be judged.
"""

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from velm_train.backbones.protocol import Backbone
from velm_train.core.hashing import sha256_json
from velm_train.core.records import CalibrationKind
from velm_train.detectors.fitted_state import LEFT_OUT_NAMES, FittedState, pack_left_out, unpack_left_out
from velm_train.detectors.layer_maps import LayerMaps
from velm_train.detectors.musc_settings import MuScSettings
from velm_train.detectors.mutual_scoring import (
    averaged_patches,
    lowest_mean,
    mutual_distances,
    nearest_distances,
    normalised_maps,
    rescored,
)
from velm_train.detectors.protocol import Need, RawDetection, RGBImages
from velm_train.detectors.scores import smoothed, standardised, top_mean
from velm_train.detectors.state import group_numbers, require_images, text_to_array

logger = logging.getLogger(__name__)

MUSC_VERSION = 3
"""Raised when the same inputs and settings give another output."""


@dataclass(frozen=True, kw_only=True)
class _Features:
    """What is kept of images.

    Attributes:
        maps: normalised maps (I, C, h, w) of every layer, float16 on the CPU.
        embeddings: mean patch feature (I, C) of the last layer.
    """

    maps: tuple[Float[Tensor, "I _ _ _"], ...]
    embeddings: Float[Tensor, "I _"]


class MuSc:
    """Mutual scoring without training, in two modes.

    Mode "transductive": `detect` compares the images it is given with each other; the fitted good images take no part.
    `out_of_sample` then is the mutual scoring of the fitted good images among themselves, an image's group left out.
    These are scores of another batch: a batch with many defects scores its good images otherwise, so that no threshold
    from them keeps its false-alarm rate. A single image has no other to be compared with: its map is zero, and a
    warning says so.

    Mode "bank": `detect` compares each image with the fitted good ones, whatever else it is given. Leaving a group out
    is exact: it equals fitting without that group.

    Maps are rounded to float16 once normalised, in both modes and everywhere, so that a restored detector scores as the
    fitted one. Time grows with the square of the number of images. Memory: the maps of all layers, and for one layer at
    a time patches and distances, I x P x (C + I) float32.
    """

    calibration: CalibrationKind = "leave_one_out"

    def __init__(
        self, backbone: Backbone, settings: MuScSettings, *, device: torch.device, batch_size: int = 8
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
        self._extract = LayerMaps(
            backbone,
            layers=settings.layers,
            input_hw=settings.input_hw,
            batch_size=batch_size,
            device=device,
            half_precision=settings.half_precision,
        )
        self._settings = settings
        self._device = device
        self.transductive = settings.mode == "transductive"
        self.needs: frozenset[Need] = frozenset({"test_batch"} if self.transductive else {"normals"})
        self.settings_hash = sha256_json(
            {
                "detector": "musc",
                "version": MUSC_VERSION,
                "backbone": backbone.identity,
                "settings": dataclasses.asdict(settings),
            }
        )
        self._fitted = FittedState(self.settings_hash)

    @property
    def identity(self) -> str:
        """Hash of settings and fitted state; before `fit`, of the settings and no state."""
        return self._fitted.identity

    @torch.no_grad()
    def fit(self, images: RGBImages, *, image_ids: Sequence[str], group_ids: Sequence[str]) -> None:
        """Scores the good images among themselves; in mode "bank" they are kept for comparison.

        Args:
            images: good images.
            image_ids: one distinct id an image, in order.
            group_ids: the physical part each image shows, in order.

        Raises:
            DataError: if there is no image, ids are missing or repeated, or features are not finite.
            GateError: if `score_diffuse` has too few images to measure against.
        """
        require_images(images, image_ids=image_ids, group_ids=group_ids)
        features = self._features(images)
        groups = group_numbers(group_ids)
        others = torch.from_numpy(groups[:, None] != groups).to(self._device)
        left_out = self._mutual(features, others) if groups.any() else []
        bank = features.maps if not self.transductive else ()
        self._fitted.keep(
            {
                "image_ids": text_to_array(json.dumps(list(image_ids))),
                **{self._bank_name(number): maps.numpy() for number, maps in enumerate(bank)},
                **pack_left_out(left_out, groups=groups, score_diffuse=self._settings.score_diffuse),
            }
        )

    @torch.no_grad()
    def detect(self, images: RGBImages, *, image_ids: Sequence[str]) -> list[RawDetection]:
        """Scores images that had no part in `fit`; in mode "transductive" against each other.

        Raises:
            GateError: if the detector is not fitted.
        """
        state = self._fitted.arrays()
        if len(images) == 0:
            return []
        features = self._features(images)
        if self.transductive:
            if len(images) == 1:
                logger.warning("MuSc cannot judge %s alone and gives it score 0; judge several images", image_ids[0])
            others = ~torch.eye(len(images), dtype=torch.bool, device=self._device)
            return self._mutual(features, others)
        bank = [torch.from_numpy(state[self._bank_name(number)]) for number in range(len(self._settings.layers))]
        others = torch.ones((len(images), len(bank[0])), dtype=torch.bool, device=self._device)
        found = self._detections(self._maps(features.maps, others, bank=bank))
        if self._settings.score_diffuse:
            return [standardised(one, yardstick=state["loo_statistics"]) for one in found]
        return found

    def out_of_sample(self) -> list[RawDetection]:
        """Scores every fitted image against the fitted images of other groups, in the order of `fit`.

        Raises:
            GateError: if the detector is not fitted, or on a single group.
        """
        return unpack_left_out(self._fitted.arrays())

    def state(self) -> dict[str, np.ndarray]:
        """Returns ids and out-of-sample results, and in mode "bank" the maps of the fitted images.

        Raises:
            GateError: if the detector is not fitted.
        """
        return self._fitted.arrays()

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores a fitted detector from what `state` returned.

        Raises:
            ArtifactError: if arrays are missing or unknown, or belong to other settings or another backbone.
        """
        num_bank_layers = 0 if self.transductive else len(self._settings.layers)
        bank_names = [self._bank_name(number) for number in range(num_bank_layers)]
        self._fitted.restore(state, names={"image_ids", *bank_names, *LEFT_OUT_NAMES})

    def _bank_name(self, layer_number: int) -> str:
        return f"maps_{layer_number}"

    def _features(self, images: RGBImages) -> _Features:
        batches = []
        embeddings = []
        for maps in self._extract.stream(images):
            batches.append([normalised_maps(values).half().cpu() for values in maps])
            embeddings.append(maps[-1].mean(dim=(2, 3)))
        return _Features(
            maps=tuple(torch.cat(layer) for layer in zip(*batches, strict=True)), embeddings=torch.cat(embeddings)
        )

    def _mutual(self, features: _Features, others: Bool[Tensor, "I I"]) -> list[RawDetection]:
        found = self._detections(self._maps(features.maps, others, bank=None))
        if not self.transductive:
            return found
        scores = rescored(
            torch.tensor([one.anomaly_score for one in found], dtype=torch.float64, device=self._device),
            features.embeddings,
            neighbours=self._settings.rescore_neighbours,
            others=others,
        )
        return [
            RawDetection(anomaly_score=score, anomaly_map=one.anomaly_map)
            for score, one in zip(scores.tolist(), found, strict=True)
        ]

    def _maps(
        self, maps: Sequence[Tensor], others: Bool[Tensor, "I J"], *, bank: Sequence[Tensor] | None
    ) -> Float[Tensor, "I h w"]:
        """Returns the anomaly maps on the finest layer's grid; without a bank the images judge each other."""
        grid_hw = max((tuple(layer.shape[2:]) for layer in maps), key=lambda hw: hw[0] * hw[1])
        total = torch.zeros((len(maps[0]), 1, *grid_hw), device=self._device)
        for number, layer in enumerate(maps):
            for side in self._settings.neighbourhoods:
                patches = averaged_patches(layer.to(self._device).float(), side=side)
                if bank is None:
                    distances = mutual_distances(patches)
                else:
                    known = averaged_patches(bank[number].to(self._device).float(), side=side)
                    distances = nearest_distances(patches, known)
                scores = lowest_mean(distances, others=others, fraction=self._settings.lowest_fraction)
                scored = scores.reshape(len(layer), 1, *layer.shape[2:])
                total += F.interpolate(scored, size=grid_hw, mode="bilinear", align_corners=False)
        return total[:, 0] / (len(maps) * len(self._settings.neighbourhoods))

    def _detections(self, maps: Float[Tensor, "I h w"]) -> list[RawDetection]:
        values = smoothed(maps.cpu().numpy(), self._settings.smoothing_sigma)
        top_fraction = self._settings.score_top_fraction
        return [RawDetection(anomaly_score=top_mean(one, top_fraction), anomaly_map=one) for one in values]
