"""PatchCore: good images go in as a memory bank of patch features; distances to it come out as maps and scores.

    images -> patch features (I, P, C) -> coreset -> bank (M, C)
    image  -> patch features (P, C) -> distance to the nearest bank vector (P,) -> map (h, w) -> smoothed -> score

After Roth et al. 2022, "Towards Total Recall in Industrial Anomaly Detection". Three things differ: each layer is
scaled to a mean norm of 1 over the fitted images, so that no layer decides alone; the score is read off the smoothed
map, so that the score and the map speak of the same place; and the map is damped towards the edge of the picture, where
good images lie farther from normal than inside (places.py).
"""

import dataclasses
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from velm_train.backbones.protocol import Backbone
from velm_train.core.errors import GateError
from velm_train.core.hashing import sha256_json
from velm_train.core.records import CalibrationKind, SizeHW
from velm_train.detectors.bank_scores import score_patches
from velm_train.detectors.coreset import greedy_coreset, project, projection_matrix
from velm_train.detectors.feature_file import FeatureFile
from velm_train.detectors.fitted_state import LEFT_OUT_NAMES, FittedState, pack_left_out, unpack_left_out
from velm_train.detectors.neighbours import MemoryBank
from velm_train.detectors.patch_features import PatchExtractor, PatchFeatures
from velm_train.detectors.place_reference import PlaceReference, reference_images
from velm_train.detectors.places import PlaceYardstick
from velm_train.detectors.protocol import Need, RawDetection, RGBImages
from velm_train.detectors.scores import standardised
from velm_train.detectors.settings import PatchCoreSettings
from velm_train.detectors.state import array_to_text, group_numbers, require_images, text_to_array

logger = logging.getLogger(__name__)

PATCHCORE_VERSION = 4
"""Raised when the same inputs and settings give another output."""

_IMAGES_PER_BLOCK = 4
"""Images whose features are projected at a time."""

_STATE_NAMES = ("bank", "bank_image", "mean_norms", "grid_hw", "place_yardstick", "image_ids", *LEFT_OUT_NAMES)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Fit:
    """What a fitted detector needs to judge images, made from its state."""

    bank: MemoryBank
    scales: Float[Tensor, " L"]
    yardstick: PlaceYardstick | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Seen:
    """The fitted images.

    Attributes:
        features: in a file.
        mean_norms: of every image's layers.
        groups: number of each image's part.
        owners: part of each vector of the bank.
    """

    features: FeatureFile
    mean_norms: Float[Tensor, "I L"]
    grid_hw: SizeHW
    groups: Int[np.ndarray, " I"]
    owners: Int[np.ndarray, " M"]


class PatchCore:
    """A memory-bank detector with exact leave-one-group-out scores.

    Leave-one-out: an image is scored against the bank without the vectors of its group (its physical part), with layer
    scales and a yardstick for the edge that do not know them either. That exclusion is exact. What is not exact, unless
    the whole bank is kept, is the coreset: it was selected once with all images, so it may hold fewer vectors of the
    other images than a coreset made without the left-out image would, where that image's vectors covered for them. With
    `coreset_fraction=1` and room in `max_patches` leave-one-out equals refitting without the image.
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
        self._fitted = FittedState(self.settings_hash)
        self._fit: _Fit | None = None

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
            bank = MemoryBank(features.patches(rows).to(self._device), channels=self._extract.channels)
            bank_image = rows.numpy() // math.prod(grid_hw)
            seen = _Seen(
                features=features, mean_norms=mean_norms, grid_hw=grid_hw, groups=groups, owners=groups[bank_image]
            )
            places = self._places(seen, bank, reference_images(group_ids)) if self._settings.even_edges else None
            left_out = list(self._leave_one_out(seen, bank, places)) if groups.any() else []
        logger.info("PatchCore: %d of %d patches of %d images", len(rows), num_patches, len(images))
        self._fitted.keep(
            {
                "bank": bank.vectors.cpu().numpy(),
                "bank_image": bank_image.astype(np.int32),
                "mean_norms": mean_norms.cpu().numpy(),
                "grid_hw": np.array(grid_hw, dtype=np.int32),
                "place_yardstick": _pack(places.whole if places else None),
                "image_ids": text_to_array(json.dumps(list(image_ids))),
                **pack_left_out(left_out, groups=groups, score_diffuse=self._settings.score_diffuse),
            }
        )
        self._fit = self._from_state(bank)

    @torch.inference_mode()
    def detect(self, images: RGBImages, *, image_ids: Sequence[str]) -> list[RawDetection]:
        """Scores images that had no part in `fit`.

        Raises:
            GateError: if the detector is not fitted.
        """
        del image_ids
        state = self._fitted.arrays()
        fit = self._fit
        assert fit is not None, "it comes with the state"
        score = partial(
            score_patches, bank=fit.bank, settings=self._settings, scales=fit.scales, yardstick=fit.yardstick
        )
        found = list(chain.from_iterable(map(score, self._extract.stream(images))))  # keeps no batch beside the next
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
        """Returns bank, owners, norms, yardstick, leave-one-out results and what they belong to, as arrays of numbers.

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
        vectors = torch.from_numpy(self._fitted.arrays()["bank"]).to(self._device)
        self._fit = self._from_state(MemoryBank(vectors, channels=self._extract.channels))

    def _from_state(self, bank: MemoryBank) -> _Fit:
        arrays = self._fitted.arrays()
        mean_norms = torch.from_numpy(arrays["mean_norms"]).to(self._device)
        return _Fit(
            bank=bank,
            scales=self._extract.layer_scales(mean_norms),
            yardstick=_unpack(arrays["place_yardstick"]),
        )

    def _extract_all(self, images: RGBImages, features: FeatureFile) -> tuple[Float[Tensor, "I L"], SizeHW]:
        """Writes the features of all images into the file; returns their mean norms and the grid."""
        mean_norms = []
        grid_hw = (0, 0)
        for batch in self._extract.stream(images):
            features.append(batch.values)
            mean_norms.append(self._extract.mean_norms(batch.values))
            grid_hw = batch.grid_hw
            del batch  # or it would lie beside the next one
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

    def _places(self, seen: _Seen, bank: MemoryBank, images: Sequence[int]) -> PlaceReference:
        return PlaceReference.of(
            (
                (
                    int(seen.groups[index]),
                    PatchFeatures(values=seen.features.image(index)[None].to(self._device), grid_hw=seen.grid_hw),
                    self._extract.own_scales(seen.mean_norms[index]),
                )
                for index in images
            ),
            bank,
            torch.from_numpy(seen.owners).to(self._device),
            smoothing_sigma=self._settings.smoothing_sigma,
        )

    def _leave_one_out(self, seen: _Seen, bank: MemoryBank, places: PlaceReference | None) -> Iterator[RawDetection]:
        """Yields every image as judged without its group; there are at least two groups."""
        for group, block in zip(seen.groups.tolist(), seen.features.blocks(1), strict=True):
            left_out = seen.owners == group
            if left_out.all():
                raise GateError(
                    f"all {len(left_out)} vectors of the memory bank come from one part; raise "
                    f"detector.coreset_fraction ({self._settings.coreset_fraction}) or detector.max_patches "
                    f"({self._settings.max_patches})"
                )
            others = torch.from_numpy(seen.groups != group).to(self._device)
            yield from score_patches(
                PatchFeatures(values=block.to(self._device), grid_hw=seen.grid_hw),
                bank,
                settings=self._settings,
                scales=self._extract.layer_scales(seen.mean_norms[others]),
                left_out=torch.from_numpy(left_out).to(self._device),
                yardstick=places.without(group) if places else None,
            )


def _pack(yardstick: PlaceYardstick | None) -> Float[np.ndarray, "2 classes"]:
    return np.zeros((2, 0)) if yardstick is None else np.stack([yardstick.mean, yardstick.deviation])


def _unpack(packed: Float[np.ndarray, "2 classes"]) -> PlaceYardstick | None:
    return PlaceYardstick(mean=packed[0], deviation=packed[1]) if packed.shape[1] else None
