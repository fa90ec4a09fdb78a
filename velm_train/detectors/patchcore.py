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
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from velm_train.backbones.protocol import Backbone
from velm_train.core.errors import ArtifactError, GateError
from velm_train.core.hashing import sha256_json
from velm_train.core.records import CalibrationKind, SizeHW
from velm_train.detectors.bank_scores import score_patches
from velm_train.detectors.coreset import greedy_coreset, project, projection_matrix
from velm_train.detectors.feature_file import FeatureFile
from velm_train.detectors.neighbours import MemoryBank
from velm_train.detectors.patch_features import PatchExtractor, PatchFeatures
from velm_train.detectors.protocol import Need, RawDetection, RGBImages
from velm_train.detectors.scores import score_statistics, standardised
from velm_train.detectors.settings import PatchCoreSettings
from velm_train.detectors.state import array_to_text, group_numbers, hash_arrays, require_images, text_to_array

logger = logging.getLogger(__name__)

PATCHCORE_VERSION = 2
"""Raised when the same inputs and settings give another output."""

_IMAGES_PER_BLOCK = 16
"""Images whose features are projected at a time."""

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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Fit:
    """What a fitted detector holds: its state, and the bank and layer scales made from it."""

    state: dict[str, np.ndarray]
    bank: MemoryBank
    scales: Float[Tensor, " L"]


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
        self._fit: _Fit | None = None
        self._identity = sha256_json({"settings": self.settings_hash, "state": None})

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
        return list(json.loads(array_to_text(self._fitted().state["image_ids"])))

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
        with FeatureFile(num_images=len(images)) as features:
            mean_norms, grid_hw = self._extract_all(images, features)
            num_patches = len(images) * math.prod(grid_hw)
            rows = self._select_bank(features, mean_norms, num_patches=num_patches)
            bank = features.patches(rows).to(self._device)  # (M, C)
            owners = rows.numpy() // math.prod(grid_hw)
            raw = self._leave_one_out(
                features, groups, bank=bank, owners=owners, mean_norms=mean_norms, grid_hw=grid_hw
            )
        statistics = np.array([score_statistics(detection) for detection in raw]).reshape(-1, 2)
        loo = [
            self._standardised(detection, statistics[groups != groups[index]]) for index, detection in enumerate(raw)
        ]
        logger.info("PatchCore: %d of %d patches of %d images", len(bank), num_patches, len(images))
        self.load_state(
            {
                "bank": bank.cpu().numpy(),
                "bank_image": owners.astype(np.int32),
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
        fit = self._fitted()
        return [
            self._standardised(found, fit.state["loo_statistics"])
            for features in self._extract.stream(images)
            for found in score_patches(features, fit.bank, settings=self._settings, scales=fit.scales)
        ]

    def out_of_sample(self) -> list[RawDetection]:
        """Returns the score of every fitted image against the bank without its group, in the order of `fit`.

        Raises:
            GateError: if the detector is not fitted, or on a single group.
        """
        state = self._fitted().state
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
        return dict(self._fitted().state)

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
        arrays = {name: np.array(state[name]) for name in _STATE_NAMES}
        self._identity = sha256_json({"settings": self.settings_hash, "state": hash_arrays(arrays)})
        self._fit = _Fit(
            state=arrays,
            bank=MemoryBank(torch.from_numpy(arrays["bank"]).to(self._device), channels=self._extract.channels),
            scales=self._extract.layer_scales(torch.from_numpy(arrays["mean_norms"]).to(self._device)),
        )

    def _fitted(self) -> _Fit:
        if self._fit is None:
            raise GateError("the detector is not fitted; call fit or load_state first")
        return self._fit

    def _extract_all(self, images: RGBImages, features: FeatureFile) -> tuple[Float[Tensor, "I L"], SizeHW]:
        """Writes the features of all images into the file; returns their mean norms and the grid."""
        mean_norms = []
        grid_hw = (0, 0)
        for batch in self._extract.stream(images):
            features.append(batch.values)
            mean_norms.append(self._extract.mean_norms(batch.values))
            grid_hw = batch.grid_hw
        return torch.cat(mean_norms), grid_hw

    def _select_bank(
        self, features: FeatureFile, mean_norms: Float[Tensor, "I L"], *, num_patches: int
    ) -> Int[Tensor, " M"]:
        num_selected = min(math.ceil(self._settings.coreset_fraction * num_patches), self._settings.max_patches)
        seed = self._settings.seed
        scales = self._extract.channel_scales(mean_norms)
        projection = projection_matrix(len(scales), seed=seed).to(self._device) * scales[:, None]
        blocks = (block.to(self._device).flatten(0, 1) for block in features.blocks(_IMAGES_PER_BLOCK))
        points = project(blocks, projection, num_rows=num_patches)
        return greedy_coreset(points, num_selected=num_selected, seed=seed)

    def _leave_one_out(
        self,
        features: FeatureFile,
        groups: Int[np.ndarray, " I"],
        *,
        bank: Float[Tensor, "M C"],
        owners: Int[np.ndarray, " M"],
        mean_norms: Float[Tensor, "I L"],
        grid_hw: SizeHW,
    ) -> list[RawDetection]:
        if len(set(groups.tolist())) == 1:
            return []
        memory_bank = MemoryBank(bank, channels=self._extract.channels)
        detections: list[RawDetection] = []
        for block in features.blocks(1):
            group = groups[len(detections)]
            left_out = groups[owners] == group
            if left_out.all():
                raise GateError(
                    f"all {len(bank)} vectors of the memory bank come from one part; raise detector.coreset_fraction "
                    f"({self._settings.coreset_fraction}) or detector.max_patches ({self._settings.max_patches})"
                )
            others = torch.from_numpy(groups != group).to(self._device)
            detections += score_patches(
                PatchFeatures(values=block.to(self._device), grid_hw=grid_hw),
                memory_bank,
                settings=self._settings,
                scales=self._extract.layer_scales(mean_norms[others]),
                left_out=torch.from_numpy(left_out).to(self._device),
            )
        return detections

    def _standardised(self, detection: RawDetection, yardstick: Float[np.ndarray, "images 2"]) -> RawDetection:
        return standardised(detection, yardstick=yardstick) if self._settings.score_diffuse else detection
