"""AnomalyDINO: a few good images go in as a bank of patches; cosine distances to it come out as maps and scores.

    good images -> turned copies -> patch features (I, P, C) of length 1 -> bank (M, C)
    image -> patch features (P, C) -> 1 - cosine to the nearest bank patch (P,) -> 0 on background -> map -> score

After Damm et al. 2025, "AnomalyDINO: Boosting Patch-based Few-shot Anomaly Detection with DINOv2", WACV. As in the
authors' code, the background is left out of the images that are judged, while the bank keeps it. Two things differ:
the score is read off the smoothed map, so that score and map speak of the same place, and foreground.py says how the
background is found.
"""

import dataclasses
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from velm_train.backbones.protocol import Backbone
from velm_train.core.hashing import sha256_json
from velm_train.core.records import CalibrationKind, SizeHW
from velm_train.detectors.anomaly_dino_settings import AnomalyDinoSettings
from velm_train.detectors.fitted_state import LEFT_OUT_NAMES, FittedState, pack_left_out, unpack_left_out
from velm_train.detectors.foreground import Foreground, find_foreground
from velm_train.detectors.layer_maps import LayerMaps
from velm_train.detectors.neighbours import MemoryBank
from velm_train.detectors.protocol import Need, RawDetection, RGBImages
from velm_train.detectors.rotations import TurnedCopies
from velm_train.detectors.scores import score_map, standardised
from velm_train.detectors.state import group_numbers, require_images, text_to_array

logger = logging.getLogger(__name__)

ANOMALY_DINO_VERSION = 3
"""Raised when the same inputs and settings give another output."""

_MIN_SEPARABLE_SHARE = 0.9
"""Share of the good images that have to show an object apart from its background, before any background is left out."""

_STATE_NAMES = ("bank", "separable", "image_ids", *LEFT_OUT_NAMES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Looked:
    """One image as the backbone sees it.

    Attributes:
        patches: features of length 1.
        foreground: where the object is, or None if nobody asks.
    """

    patches: Float[Tensor, "P C"]
    grid_hw: SizeHW
    foreground: Foreground | None


class AnomalyDino:
    """A memory bank of all patches of the good images and their turned copies.

    Leaving a group out is exact: an image is scored against the bank without its group's patches, those of the turned
    copies among them, and the group has no say in whether background is left out. That equals fitting without it.

    The bank grows with every image and copy, and so do memory and time: the method is meant for few images.
    """

    needs: frozenset[Need] = frozenset({"normals"})
    transductive = False
    calibration: CalibrationKind = "leave_one_out"

    def __init__(
        self, backbone: Backbone, settings: AnomalyDinoSettings, *, device: torch.device, batch_size: int = 8
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
        self.settings_hash = sha256_json(
            {
                "detector": "anomaly_dino",
                "version": ANOMALY_DINO_VERSION,
                "backbone": backbone.identity,
                "settings": dataclasses.asdict(settings),
            }
        )
        self._fitted = FittedState(self.settings_hash)
        self._bank: MemoryBank | None = None

    @property
    def identity(self) -> str:
        """Hash of settings and fitted state; before `fit`, of the settings and no state."""
        return self._fitted.identity

    @torch.no_grad()
    def fit(self, images: RGBImages, *, image_ids: Sequence[str], group_ids: Sequence[str]) -> None:
        """Builds the memory bank and scores every image against the bank without its group.

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
        copies = self._settings.num_rotations
        looked: list[_Looked] = []
        vectors: list[Tensor] = []
        for number, one in enumerate(self._look(TurnedCopies(images, num_rotations=copies))):
            vectors.append(one.patches.half())
            if number % copies == 0:
                looked.append(one)
        bank = torch.cat(vectors)
        owners = np.repeat(groups, copies * len(vectors[0]))
        separable = np.array([one.foreground is not None and one.foreground.separable for one in looked])
        search = self._search(bank)
        left_out = self._leave_out(looked, groups, bank=search, owners=owners, separable=separable)
        self._fitted.keep(
            {
                "bank": bank.cpu().numpy(),
                "separable": separable,
                "image_ids": text_to_array(json.dumps(list(image_ids))),
                **pack_left_out(left_out, groups=groups, score_diffuse=self._settings.score_diffuse),
            }
        )
        self._bank = search
        logger.info(
            "AnomalyDINO: %d patches of %d images; background is left out: %s",
            len(bank),
            len(images),
            self._hides_background(separable),
        )

    @torch.no_grad()
    def detect(self, images: RGBImages, *, image_ids: Sequence[str]) -> list[RawDetection]:
        """Scores images that had no part in `fit`.

        Raises:
            GateError: if the detector is not fitted.
        """
        del image_ids
        state = self._fitted.arrays()
        assert self._bank is not None, "the bank comes with the state"
        hides = self._hides_background(state["separable"])
        found = [self._score(one, self._bank, hides=hides, left_out=None) for one in self._look(images)]
        if self._settings.score_diffuse:
            return [standardised(one, yardstick=state["loo_statistics"]) for one in found]
        return found

    def out_of_sample(self) -> list[RawDetection]:
        """Returns the score of every fitted image against the bank without its group, in the order of `fit`.

        Raises:
            GateError: if the detector is not fitted, or on a single group.
        """
        return unpack_left_out(self._fitted.arrays())

    def state(self) -> dict[str, np.ndarray]:
        """Returns the bank, which images show an object apart, ids and out-of-sample results.

        Raises:
            GateError: if the detector is not fitted.
        """
        return self._fitted.arrays()

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores a fitted detector from what `state` returned.

        Raises:
            ArtifactError: if arrays are missing or unknown, or belong to other settings or another backbone.
        """
        self._fitted.restore(state, names=_STATE_NAMES)
        self._bank = self._search(torch.from_numpy(self._fitted.arrays()["bank"]))

    def _search(self, bank: Float[Tensor, "M C"]) -> MemoryBank:
        vectors = bank.to(self._device).float()
        return MemoryBank(vectors, channels=[vectors.shape[1]])

    def _look(self, images: RGBImages) -> Iterator[_Looked]:
        """Yields every image's patches; layers are of length 1 each, so that each counts alike in the cosine."""
        for maps in self._extract.stream(images):
            grid_hw = max(((one.shape[2], one.shape[3]) for one in maps), key=math.prod)
            layers = [
                F.interpolate(one, size=grid_hw, mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)
                for one in maps
            ]
            raw = torch.cat(layers, dim=2)  # (B, P, C)
            patches = torch.cat([F.normalize(one, dim=2) / math.sqrt(len(layers)) for one in layers], dim=2)
            for one, values in zip(patches, raw, strict=True):
                foreground = None if self._settings.foreground == "off" else find_foreground(values, grid_hw)
                yield _Looked(patches=one, grid_hw=grid_hw, foreground=foreground)

    def _hides_background(self, separable: Bool[np.ndarray, " I"]) -> bool:
        if self._settings.foreground == "auto":
            return float(separable.mean()) >= _MIN_SEPARABLE_SHARE
        return self._settings.foreground == "on"

    def _leave_out(
        self,
        looked: Sequence[_Looked],
        groups: Int[np.ndarray, " I"],
        *,
        bank: MemoryBank,
        owners: Int[np.ndarray, " M"],
        separable: Bool[np.ndarray, " I"],
    ) -> list[RawDetection]:
        if not groups.any():
            return []  # a single group
        detections = []
        for one, group in zip(looked, groups, strict=True):
            own = torch.from_numpy(owners == group).to(self._device)
            hides = self._hides_background(separable[groups != group])
            detections.append(self._score(one, bank, hides=hides, left_out=own))
        return detections

    def _score(
        self, looked: _Looked, bank: MemoryBank, *, hides: bool, left_out: Bool[Tensor, " M"] | None
    ) -> RawDetection:
        scales = torch.ones(1, device=self._device)
        distances, _ = bank.nearest(looked.patches, scales=scales, left_out=left_out)
        cosine_distances = distances.square() / 2  # of vectors of length 1
        foreground = looked.foreground
        if hides and foreground is not None and (self._settings.foreground == "on" or foreground.separable):
            cosine_distances = cosine_distances.masked_fill(~foreground.patches, 0)
        return score_map(
            cosine_distances.reshape(looked.grid_hw).cpu().numpy(),
            smoothing_sigma=self._settings.smoothing_sigma,
            top_fraction=self._settings.score_top_fraction,
        )
