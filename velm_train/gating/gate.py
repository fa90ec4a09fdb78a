"""Out-of-sample detections of normal images go in; a frozen gate that decides about any image comes out.

Detection (score s) -> p = (1 + #{calibration >= s}) / (n + 1) -> flagged iff p <= alpha, that is s > image_threshold
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from velm_train.core.errors import ArtifactError, GateError
from velm_train.core.records import CalibrationKind, Detection, GateDecision, GatePolicy
from velm_train.gating.conformal import Scores, image_threshold, p_value
from velm_train.gating.guarantees import Guarantee, guarantee
from velm_train.gating.pixel import pixel_threshold

GATE_SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibratedGate:
    """The gate of one category: calibration scores, thresholds and policy, all frozen.

    Attributes:
        alpha: the false-alarm rate asked for, in [1 / (n + 1), 1).
        policy: "detector" flags by the score, "oracle" by the ground truth, "off" flags every image.
        calibration_scores: raw scores of the normal images, in the order given.
        image_threshold: an image is flagged iff its score exceeds this (raw units).
        pixel_threshold: a map value is suspicious iff it exceeds this (raw units).
        pixel_alpha: share of normal map cells above pixel_threshold; a rate per pixel, not per image.
        calibration: how the calibration scores were made out-of-sample.
        detector_hash: of the detector that gave the scores; no other detector's images are judged.
        transductive: True if the detector looks at the test batch, so that no guarantee holds.
    """

    category: str
    alpha: float
    policy: GatePolicy
    calibration_scores: tuple[float, ...]
    image_threshold: float
    pixel_threshold: float
    pixel_alpha: float
    calibration: CalibrationKind
    detector_hash: str
    transductive: bool

    @classmethod
    def calibrate(
        cls,
        normals: Sequence[Detection],
        *,
        category: str,
        alpha: float,
        pixel_alpha: float,
        calibration: CalibrationKind,
        transductive: bool,
        allow_transductive: bool,
    ) -> "CalibratedGate":
        """Returns a gate of policy "detector" calibrated on normal images; `with_policy` gives the others.

        Args:
            normals: out-of-sample detections of normal images by one detector.
            category: for messages and reports.
            alpha: the false-alarm rate asked for.
            pixel_alpha: share of normal map cells that may exceed the pixel threshold, in (0, 1).
            calibration: how the detections were made out-of-sample.
            transductive: whether the detector looks at the test batch.
            allow_transductive: accept such a detector although no guarantee holds for it.

        Raises:
            GateError: if the detections are none, in-sample, or of several detectors; if alpha cannot be reached; if
                the detector is transductive and that is not allowed.
        """
        if transductive and not allow_transductive:
            raise GateError(
                f"{category}: the detector is transductive (it looks at the test batch), so no false-alarm rate can be "
                f"guaranteed; choose another detector or set gate.allow_transductive=true"
            )
        detector_hash = _common_detector_hash(normals, category=category)
        scores = np.array([detection.anomaly_score for detection in normals], dtype=np.float64)
        return cls(
            category=category,
            alpha=alpha,
            policy="detector",
            calibration_scores=tuple(scores.tolist()),
            image_threshold=image_threshold(scores, alpha=alpha),
            pixel_threshold=pixel_threshold([detection.anomaly_map for detection in normals], pixel_alpha=pixel_alpha),
            pixel_alpha=pixel_alpha,
            calibration=calibration,
            detector_hash=detector_hash,
            transductive=transductive,
        )

    @property
    def num_calibration(self) -> int:
        """How many normal images the gate was calibrated on."""
        return len(self.calibration_scores)

    @property
    def guarantee(self) -> Guarantee | None:
        """What the calibration promises about policy "detector"; None for a transductive detector: nothing."""
        if self.transductive:
            return None
        return guarantee(self.num_calibration, self.alpha, calibration=self.calibration)

    def calibration_array(self) -> Scores:
        """Returns the calibration scores as float64 (n,)."""
        return np.array(self.calibration_scores, dtype=np.float64)

    def with_policy(self, policy: GatePolicy) -> "CalibratedGate":
        """Returns the same calibration under another policy."""
        return dataclasses.replace(self, policy=policy)

    def decide(self, detection: Detection, *, gt_label: bool | None) -> GateDecision:
        """Decides whether an image goes on to the language model; the p-value is recorded under every policy.

        Args:
            detection: out-of-sample, by the detector the gate was calibrated with.
            gt_label: True if the image shows a defect; read by policy "oracle" alone; None if nobody knows.

        Raises:
            GateError: if the detection is in-sample or another detector's, or policy "oracle" lacks a label.
        """
        if detection.detector_hash != self.detector_hash:
            raise GateError(
                f"{detection.image_id}: scored by detector {detection.detector_hash[:12]}, but the gate of "
                f"{self.category} belongs to detector {self.detector_hash[:12]}; calibrate and detect with the same one"
            )
        _require_out_of_sample(detection)
        return GateDecision(
            image_id=detection.image_id,
            p_value=p_value(detection.anomaly_score, self.calibration_array()),
            alpha=self.alpha,
            image_threshold=self.image_threshold,
            pred_label=self._flags(detection, gt_label),
            policy=self.policy,
        )

    def _flags(self, detection: Detection, gt_label: bool | None) -> bool:
        if self.policy == "off":
            return True
        if self.policy == "detector":
            return detection.anomaly_score > self.image_threshold
        if gt_label is None:
            raise GateError(
                f"{detection.image_id}: gate policy 'oracle' decides by the ground truth, but the image has no label; "
                f"use gate.policy=detector on images without labels"
            )
        return gt_label

    def to_json(self) -> dict[str, Any]:
        """Returns a plain dictionary that `from_json` reads back to an equal gate."""
        row = dataclasses.asdict(self)
        return {
            "schema_version": GATE_SCHEMA_VERSION,
            **row,
            "calibration_scores": list(self.calibration_scores),
            "num_calibration": self.num_calibration,
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "CalibratedGate":
        """Reads a dictionary written by `to_json`.

        Raises:
            ArtifactError: if a field is missing, unknown, impossible, or at odds with another.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        expected = names | {"schema_version", "num_calibration"}
        if set(row) != expected:
            missing, unknown = sorted(expected - set(row)), sorted(set(row) - expected)
            raise ArtifactError(f"gate file: missing fields {missing}, unknown fields {unknown}; calibrate again")
        if row["schema_version"] != GATE_SCHEMA_VERSION:
            raise ArtifactError(
                f"gate file: schema version {row['schema_version']} instead of {GATE_SCHEMA_VERSION}; calibrate again"
            )
        if row["policy"] not in get_args(GatePolicy) or row["calibration"] not in get_args(CalibrationKind):
            raise ArtifactError(
                f"gate file: policy {row['policy']!r} or calibration {row['calibration']!r} is unknown; calibrate again"
            )
        values = {name: row[name] for name in names}
        gate = cls(**{**values, "calibration_scores": tuple(row["calibration_scores"])})
        gate._require_consistent(row["num_calibration"])
        return gate

    def _require_consistent(self, num_calibration: int) -> None:
        recomputed = image_threshold(self.calibration_array(), alpha=self.alpha)
        if num_calibration != self.num_calibration or recomputed != self.image_threshold:
            raise ArtifactError(
                f"gate file of {self.category}: num_calibration {num_calibration} and image_threshold "
                f"{self.image_threshold} do not follow from its {self.num_calibration} scores; calibrate again"
            )


def _require_out_of_sample(detection: Detection) -> None:
    if not detection.out_of_sample:
        raise GateError(
            f"{detection.image_id}: its detection is in-sample (the detector has seen the image), so its score is too "
            f"low; use the detector's leave-one-out or held-out detections"
        )


def _common_detector_hash(normals: Sequence[Detection], *, category: str) -> str:
    if not normals:
        raise GateError(f"{category}: no normal image to calibrate the gate on; give at least 1/alpha - 1 of them")
    for detection in normals:
        _require_out_of_sample(detection)
    hashes = {detection.detector_hash for detection in normals}
    if len(hashes) > 1:
        raise GateError(f"{category}: calibration detections come from {len(hashes)} detectors; use those of one")
    image_ids = {detection.image_id for detection in normals}
    if len(image_ids) < len(normals):
        raise GateError(
            f"{category}: {len(normals)} calibration detections of only {len(image_ids)} images; give each image once"
        )
    return normals[0].detector_hash
