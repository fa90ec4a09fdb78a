"""A detector without leave-one-out goes in; one with out-of-sample scores from folds of the good images comes out.

good images -> the full detector, fitted on all of them, judges new images
            -> K folds of whole groups: a detector fitted on the other folds scores each held-out one
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import overload

import numpy as np
from jaxtyping import Int

from velm_train.core.errors import ArtifactError, ConfigError, DataError, GateError
from velm_train.core.hashing import sha256_json
from velm_train.core.records import CalibrationKind
from velm_train.core.seeding import generator
from velm_train.core.shapes import RGBImage
from velm_train.detectors.fitted_state import LEFT_OUT_NAMES, FittedState, pack_left_out, unpack_left_out
from velm_train.detectors.protocol import Detector, Need, RawDetection, RGBImages
from velm_train.detectors.state import group_numbers, require_images, text_to_array

logger = logging.getLogger(__name__)

FOLDS_VERSION = 1
"""Raised when the same inputs and settings give another output."""

_FULL_PREFIX = "full."
_OWN_NAMES = frozenset({"folds", "image_ids", "settings_hash", *LEFT_OUT_NAMES})


class KFoldDetector:
    """Fits a detector once on all good images, and once more for each fold that is left out.

    The scores of a fold come from a detector that never saw its groups. They stand for the scores of new images under
    the full detector as far as one fitted on a share 1 - 1/K of the images scores like it; CV+ states what is proven
    (Barber, Candes, Ramdas and Tibshirani 2021, "Predictive inference with the jackknife+", theorem 4).
    """

    transductive = False
    calibration: CalibrationKind = "k_fold"

    def __init__(self, make: Callable[[], Detector], *, num_folds: int, seed: int) -> None:
        """Makes the full detector; nothing is computed.

        Args:
            make: gives a fresh, unfitted detector, always of the same settings.
            num_folds: K, at least 2; no more than there are groups.
            seed: of the division into folds.

        Raises:
            ConfigError: if there are too few folds, or the detector learns nothing from the images it is fitted on.
        """
        if num_folds < 2:
            raise ConfigError(f"detector.num_folds is {num_folds}; at least 2 folds are needed")
        self._make = make
        self._full = make()
        if self._full.transductive or "normals" not in self._full.needs:
            raise ConfigError(
                f"detector.num_folds is {num_folds}, but the detector learns from {sorted(self._full.needs)}, not from "
                "the good images, so that leaving some out changes nothing; set detector.num_folds=0"
            )
        self._num_folds = num_folds
        self._seed = seed
        self.needs: frozenset[Need] = self._full.needs
        self.settings_hash = sha256_json(
            {
                "detector": "k_fold",
                "version": FOLDS_VERSION,
                "of": self._full.settings_hash,
                "num_folds": num_folds,
                "seed": seed,
            }
        )
        self._fitted = FittedState(self.settings_hash)

    @property
    def identity(self) -> str:
        """Hash of settings, the full detector and the results of the folds; before `fit`, of the settings alone."""
        return self._fitted.identity

    def fit(self, images: RGBImages, *, image_ids: Sequence[str], group_ids: Sequence[str]) -> None:
        """Fits the full detector, then scores every fold by a detector that lacks it.

        Args:
            images: good images; read once for the full detector and once for every fold.
            image_ids: one distinct id an image, in order.
            group_ids: the physical part each image shows, in order; those of one part share a fold.

        Raises:
            DataError: if there is no image, ids are missing or repeated, or maps of several sizes come out.
            GateError: if there are fewer groups than folds.
        """
        require_images(images, image_ids=image_ids, group_ids=group_ids)
        groups = group_numbers(group_ids)
        folds = self._divide(groups)
        self._full.fit(images, image_ids=image_ids, group_ids=group_ids)
        found: dict[int, RawDetection] = {}
        for fold in range(self._num_folds):
            kept, held_out = (np.flatnonzero(chosen).tolist() for chosen in (folds != fold, folds == fold))
            logger.info("fold %d of %d: %d good images scored", fold + 1, self._num_folds, len(held_out))
            detector = self._make()
            detector.fit(
                _Chosen(images, kept),
                image_ids=[image_ids[index] for index in kept],
                group_ids=[group_ids[index] for index in kept],
            )
            scored = detector.detect(_Chosen(images, held_out), image_ids=[image_ids[index] for index in held_out])
            found.update(zip(held_out, scored, strict=True))
        detections = [found[index] for index in range(len(images))]
        shapes = sorted({one.anomaly_map.shape for one in detections})
        if len(shapes) > 1:
            raise DataError(f"the detector gives maps of sizes {shapes}; folds need maps of one size")
        self._fitted.keep(
            {
                **{f"{_FULL_PREFIX}{name}": values for name, values in self._full.state().items()},
                "folds": folds,
                "image_ids": text_to_array(json.dumps(list(image_ids))),
                **pack_left_out(detections, groups=groups, score_diffuse=False),
            }
        )

    def detect(self, images: RGBImages, *, image_ids: Sequence[str]) -> list[RawDetection]:
        """Scores images that had no part in `fit` by the full detector.

        Raises:
            GateError: if the detector is not fitted.
        """
        self._fitted.arrays()
        return self._full.detect(images, image_ids=image_ids)

    def out_of_sample(self) -> list[RawDetection]:
        """Returns the score of every fitted image by the detector that lacks its fold, in the order of `fit`.

        Raises:
            GateError: if the detector is not fitted.
        """
        return unpack_left_out(self._fitted.arrays())

    def state(self) -> dict[str, np.ndarray]:
        """Returns the full detector's state, its names behind a prefix, and the results of the folds.

        Raises:
            GateError: if the detector is not fitted.
        """
        return self._fitted.arrays()

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores a fitted detector from what `state` returned.

        Raises:
            ArtifactError: if arrays are missing or unknown, or belong to other settings or another backbone.
        """
        own = {name for name in state if not name.startswith(_FULL_PREFIX)}
        if own != _OWN_NAMES:
            raise ArtifactError(f"detector state holds {sorted(own)} instead of {sorted(_OWN_NAMES)}; fit it again")
        self._full.load_state(
            {name.removeprefix(_FULL_PREFIX): state[name] for name in state if name.startswith(_FULL_PREFIX)}
        )
        self._fitted.restore(state, names=None)

    def _divide(self, groups: Int[np.ndarray, " I"]) -> Int[np.ndarray, " I"]:
        """Returns each image's fold; groups are shuffled and dealt out, the largest first into the smallest fold."""
        sizes = np.bincount(groups)
        if len(sizes) < self._num_folds:
            raise GateError(
                f"{len(sizes)} groups of good images cannot make {self._num_folds} folds; add good images of other "
                f"parts or set detector.num_folds to at most {len(sizes)}"
            )
        shuffled = generator(self._seed, "folds").permutation(len(sizes))
        filled = np.zeros(self._num_folds, dtype=np.int64)
        fold_of_group = np.zeros(len(sizes), dtype=np.int64)
        for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
            fold_of_group[group] = filled.argmin()
            filled[fold_of_group[group]] += sizes[group]
        folds: np.ndarray = fold_of_group[groups]
        return folds


class _Chosen(Sequence[RGBImage]):
    """Some of many pictures, read on access."""

    def __init__(self, images: RGBImages, indices: Sequence[int]) -> None:
        self._images = images
        self._indices = tuple(indices)

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> RGBImage: ...

    @overload
    def __getitem__(self, index: slice) -> "_Chosen": ...

    def __getitem__(self, index: int | slice) -> "RGBImage | _Chosen":
        if isinstance(index, slice):
            return _Chosen(self._images, self._indices[index])
        return self._images[self._indices[index]]
