"""PatchCore: good images go in as a memory bank of patch features; distances to it come out as maps and scores.

    images -> patch features (I, P, C) -> coreset -> bank (M, C)
    image  -> patch features (P, C) -> distance to the nearest bank vector (P,) -> map (h, w) -> smoothed -> score

After Roth et al. 2022, "Towards Total Recall in Industrial Anomaly Detection". Two things differ: each layer is scaled
to a mean norm of 1 over the fitted images, so that no layer decides alone, and the score is read off the smoothed map,
so that the score and the map speak of the same place.
"""

import dataclasses
import json
import logging
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter
from torch import Tensor

from velm_train.backbones.protocol import Backbone
from velm_train.core.errors import ArtifactError, GateError
from velm_train.core.hashing import sha256_json
from velm_train.core.records import CalibrationKind, SizeHW
from velm_train.detectors.coreset import greedy_coreset, projection_matrix
from velm_train.detectors.neighbours import nearest, neighbourhood_weight
from velm_train.detectors.patch_features import PatchExtractor
from velm_train.detectors.protocol import Need, RawDetection, RGBImages
from velm_train.detectors.scores import score_statistics, standardised, top_mean
from velm_train.detectors.settings import PatchCoreSettings
from velm_train.detectors.state import array_to_text, group_numbers, hash_arrays, require_images, text_to_array

logger = logging.getLogger(__name__)

PATCHCORE_VERSION = 2
"""Raised when the same inputs and settings give another output."""

_STATE_NAMES = (
    "bank",
    "bank_image",
    "mean_norms",
    "grid_hw",
    "image_ids",
    "settings_hash",
    "loo_scores",
    "loo_maps",
    "loo_statistics",
)


class PatchCore:
    """A memory-bank detector with exact leave-one-group-out scores.

    Leave-one-out: an image is scored against the bank without the vectors of its group (its physical part), with layer
    scales that do not know them either. That exclusion is exact. What is not exact, unless the whole bank is kept, is
    the coreset: it was selected once with all images, so it may hold fewer vectors of the other images than a coreset
    made without the left-out image would, where that image's vectors covered for them. With `coreset_fraction=1` and
    room in `max_patches` leave-one-out equals refitting without the image.
    """

    needs: frozenset[Need] = frozenset({"normals"})
    transductive = False
    calibration: CalibrationKind = "leave_one_out"

    def __init__(
        self, backbone: Backbone, settings: PatchCoreSettings, *, device: torch.device, batch_size: int = 8
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
        self._extract = PatchExtractor(
            backbone,
            layers=settings.layers,
            input_hw=settings.input_hw,
            batch_size=batch_size,
            device=device,
            half_precision=settings.half_precision,
        )
        self._settings = settings
        self._device = device
        self.settings_hash = sha256_json(
            {
                "detector": "patchcore",
                "version": PATCHCORE_VERSION,
                "backbone": backbone.identity,
                "settings": dataclasses.asdict(settings),
            }
        )
        self._state: dict[str, np.ndarray] | None = None
        self._identity = sha256_json({"settings": self.settings_hash, "state": None})
        self._scaled_bank = torch.empty(0)
        self._scales = torch.empty(0)
        self._yardstick = np.empty((0, 2))

    @property
    def identity(self) -> str:
        """Hash of settings and fitted state; before `fit`, of the settings and no state."""
        return self._identity

    @property
    def fitted_image_ids(self) -> list[str]:
        """Ids of the fitted images in order.

        Raises:
            GateError: if the detector is not fitted.
        """
        return list(json.loads(array_to_text(self._fitted()["image_ids"])))

    @torch.inference_mode()
    def fit(self, images: RGBImages, *, image_ids: Sequence[str], group_ids: Sequence[str]) -> None:
        """Builds the memory bank and scores every image against the bank without its group.

        Args:
            images: good images.
            image_ids: one distinct id an image, in order.
            group_ids: the physical part each image shows, in order.

        Raises:
            DataError: if there is no image, or ids are missing or repeated.
        """
        require_images(images, image_ids=image_ids, group_ids=group_ids)
        groups = group_numbers(group_ids)
        batches = [self._extract([images[index] for index in batch]) for batch in self._extract.batches(images)]
        grid_hw = batches[0].grid_hw
        features = torch.cat([batch.values for batch in batches])  # (I, P, C)
        mean_norms = self._extract.mean_norms(features)
        rows = self._select_bank(features, self._extract.channel_scales(mean_norms))
        bank = features.flatten(0, 1)[rows]  # (M, C)
        owners = rows // features.shape[1]
        raw = self._leave_one_out(features, groups, bank=bank, owners=owners, mean_norms=mean_norms, grid_hw=grid_hw)
        statistics = np.array([score_statistics(detection) for detection in raw]).reshape(-1, 2)
        loo = [
            self._standardised(detection, statistics[groups != groups[index]]) for index, detection in enumerate(raw)
        ]
        logger.info("PatchCore: %d of %d patches of %d images", len(bank), features.shape[:2].numel(), len(images))
        self.load_state(
            {
                "bank": bank.cpu().numpy(),
                "bank_image": owners.cpu().numpy().astype(np.int32),
                "mean_norms": mean_norms.cpu().numpy(),
                "grid_hw": np.array(grid_hw, dtype=np.int32),
                "image_ids": text_to_array(json.dumps(list(image_ids))),
                "settings_hash": text_to_array(self.settings_hash),
                "loo_scores": np.array([detection.anomaly_score for detection in loo], dtype=np.float64),
                "loo_maps": np.array([detection.anomaly_map for detection in loo], dtype=np.float32),
                "loo_statistics": statistics,
            }
        )

    @torch.inference_mode()
    def detect(self, images: RGBImages, *, image_ids: Sequence[str]) -> list[RawDetection]:
        """Scores images that had no part in `fit`.

        Raises:
            GateError: if the detector is not fitted.
        """
        del image_ids
        self._fitted()
        detections = []
        for batch in self._extract.batches(images):
            features = self._extract([images[index] for index in batch])
            found = [
                self._score(values * self._scales, self._scaled_bank, grid_hw=features.grid_hw)
                for values in features.values
            ]
            detections += [self._standardised(detection, self._yardstick) for detection in found]
        return detections

    def out_of_sample(self) -> list[RawDetection]:
        """Returns the score of every fitted image against the bank without its group, in the order of `fit`.

        Raises:
            GateError: if the detector is not fitted, or on a single group.
        """
        state = self._fitted()
        if len(state["loo_scores"]) == 0:
            raise GateError(
                "the detector was fitted on 1 image or group, so nothing is left when that one is left out; "
                "fit good images of at least 2 parts, or calibrate on held-out ones"
            )
        return [
            RawDetection(anomaly_score=float(score), anomaly_map=anomaly_map.copy())
            for score, anomaly_map in zip(state["loo_scores"], state["loo_maps"], strict=True)
        ]

    def state(self) -> dict[str, np.ndarray]:
        """Returns bank, owners, norms, leave-one-out results and what they belong to, as arrays of numbers.

        Raises:
            GateError: if the detector is not fitted.
        """
        return dict(self._fitted())

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores a fitted detector from what `state` returned.

        Raises:
            ArtifactError: if arrays are missing or unknown, or belong to other settings or another backbone.
        """
        if set(state) != set(_STATE_NAMES):
            raise ArtifactError(
                f"detector state holds {sorted(state)} instead of {sorted(_STATE_NAMES)}; fit the detector again"
            )
        found = array_to_text(state["settings_hash"])
        if found != self.settings_hash:
            raise ArtifactError(
                f"detector state belongs to settings {found[:12]}, not {self.settings_hash[:12]}; "
                f"fit the detector again"
            )
        self._state = {name: np.array(state[name]) for name in _STATE_NAMES}
        self._identity = sha256_json({"settings": self.settings_hash, "state": hash_arrays(self._state)})
        mean_norms = torch.from_numpy(self._state["mean_norms"]).to(self._device)
        self._scales = self._extract.channel_scales(mean_norms)
        self._scaled_bank = torch.from_numpy(self._state["bank"]).to(self._device) * self._scales
        self._yardstick = self._state["loo_statistics"]

    def _fitted(self) -> dict[str, np.ndarray]:
        if self._state is None:
            raise GateError("the detector is not fitted; call fit or load_state first")
        return self._state

    def _select_bank(self, features: Float[Tensor, "I P C"], scales: Float[Tensor, " C"]) -> Tensor:
        num_patches = features.shape[0] * features.shape[1]
        num_selected = min(math.ceil(self._settings.coreset_fraction * num_patches), self._settings.max_patches)
        seed = self._settings.seed
        projection = projection_matrix(len(scales), seed=seed).to(self._device) * scales[:, None]
        points = features.flatten(0, 1) @ projection
        return greedy_coreset(points, num_selected=num_selected, seed=seed).to(self._device)

    def _leave_one_out(
        self,
        features: Float[Tensor, "I P C"],
        groups: Int[np.ndarray, " I"],
        *,
        bank: Tensor,
        owners: Tensor,
        mean_norms: Tensor,
        grid_hw: SizeHW,
    ) -> list[RawDetection]:
        if len(set(groups.tolist())) == 1:
            return []
        group_of = torch.from_numpy(groups).to(self._device)
        detections = []
        for index in range(features.shape[0]):
            others = group_of != group_of[index]
            remaining = bank[others[owners]]
            if len(remaining) == 0:
                raise GateError(
                    f"all {len(bank)} vectors of the memory bank come from one part; raise detector.coreset_fraction "
                    f"({self._settings.coreset_fraction}) or detector.max_patches ({self._settings.max_patches})"
                )
            scales = self._extract.channel_scales(mean_norms[others])
            detections.append(self._score(features[index] * scales, remaining * scales, grid_hw=grid_hw))
        return detections

    def _score(self, patches: Float[Tensor, "P C"], bank: Float[Tensor, "M C"], *, grid_hw: SizeHW) -> RawDetection:
        distances, rows = nearest(patches, bank)
        anomaly_map = distances.reshape(grid_hw).cpu().numpy()
        if self._settings.smoothing_sigma > 0:
            anomaly_map = gaussian_filter(anomaly_map, self._settings.smoothing_sigma, mode="nearest")
        score = top_mean(anomaly_map, self._settings.score_top_fraction)
        if self._settings.reweight:
            worst = int(distances.argmax())
            score *= neighbourhood_weight(
                patches[worst], bank, nearest_row=int(rows[worst]), num_neighbours=self._settings.num_neighbours
            )
        return RawDetection(anomaly_score=score, anomaly_map=anomaly_map)

    def _standardised(self, detection: RawDetection, yardstick: Float[np.ndarray, "images 2"]) -> RawDetection:
        return standardised(detection, yardstick=yardstick) if self._settings.score_diffuse else detection
