"""What every detector offers: fitted on good images, it turns images into scores and maps, out-of-sample on request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from velm_train.core.records import CalibrationKind
from velm_train.core.shapes import AnomalyMap

RGBImages = Sequence[UInt8[np.ndarray, "_ _ 3"]]
"""Pictures in RGB order, 0..255; each may have its own size."""


Need = Literal["normals", "test_batch", "maps_on_disk"]
"""What a detector learns from: good images of the category, the other images to be judged, another system's maps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RawDetection:
    """A detector's word about one image, before it is tied to a record.

    Attributes:
        anomaly_score: raw units, higher is more anomalous.
        anomaly_map: float32, raw units, the detector's own resolution, covering the whole image.
    """

    anomaly_score: float
    anomaly_map: AnomalyMap


@runtime_checkable
class Detector(Protocol):
    """A frozen detector; only `fit` and `load_state` change it."""

    @property
    def needs(self) -> frozenset[Need]:
        """What `fit` and `detect` learn from beyond the image they judge."""
        ...

    @property
    def transductive(self) -> bool:
        """True if `detect` looks at the other images it is given, so that scores are not exchangeable.

        Such a detector is given all images at once.
        """
        ...

    @property
    def calibration(self) -> CalibrationKind:
        """How `out_of_sample` makes its scores: "leave_one_out" or "k_fold"; "split" if it cannot make any."""
        ...

    @property
    def settings_hash(self) -> str:
        """Hash of the backbone and every setting that changes the output; known before `fit`."""
        ...

    @property
    def identity(self) -> str:
        """Hash of settings and fitted state; before `fit`, of the settings and no state."""
        ...

    def fit(self, images: RGBImages, *, image_ids: Sequence[str], group_ids: Sequence[str]) -> None:
        """Learns what is normal from good images alone.

        Args:
            images: good images; read on access, perhaps more than once, so ask for each only when it is needed.
            image_ids: one distinct id an image, in order.
            group_ids: the physical part each image shows, in order; images of one part are left out together.

        Raises:
            DataError: if there is no image, ids are missing or repeated, or features are not finite.
        """
        ...

    def detect(self, images: RGBImages, *, image_ids: Sequence[str]) -> list[RawDetection]:
        """Scores images that had no part in `fit`, in the order given.

        Raises:
            GateError: if the detector is not fitted.
        """
        ...

    def out_of_sample(self) -> list[RawDetection]:
        """Scores every fitted image as if its group had not been fitted, in the order of `fit`.

        Raises:
            GateError: if the detector is not fitted, on a single group, or if `calibration` is "split".
        """
        ...

    def state(self) -> dict[str, np.ndarray]:
        """Returns everything `load_state` needs as plain arrays of numbers.

        Raises:
            GateError: if the detector is not fitted.
        """
        ...

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores a fitted detector.

        Raises:
            ArtifactError: if the state is not complete or belongs to other settings.
        """
        ...
