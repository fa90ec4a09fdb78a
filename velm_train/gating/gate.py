"""Out-of-sample detections of normal images go in; a frozen gate that decides about any image comes out.

Detection (score s) -> p = (1 + #{calibration >= s}) / (n + 1) -> flagged iff p <= alpha, that is s > image_threshold

n counts physical parts: a part that several calibration images show has one score, its highest.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from velm_train.core.errors import ArtifactError, GateError
from velm_train.core.records import CalibrationKind, Detection, GateDecision, GatePolicy
from velm_train.gating.conformal import Scores, image_threshold, p_value
from velm_train.gating.guarantees import Guarantee, Scheme, guarantee
from velm_train.gating.parts import part_numbers, part_scores
from velm_train.gating.pixel import pixel_threshold

GATE_SCHEMA_VERSION = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibratedGate:
    """The gate of one category: calibration scores, thresholds and policy, all frozen.

    Attributes:
        alpha: the false-alarm rate asked for, in [1 / (n + 1), 1).
        policy: "detector" flags by the score, "oracle" by the ground truth, "off" flags every image.
        calibration_scores: raw scores of the normal images, in the order given.
        calibration_parts: the number of the part that each of them shows; all distinct if no part is seen twice.
        image_threshold: an image is flagged iff its score exceeds this (raw units).
        pixel_threshold: a map value is suspicious iff it exceeds this (raw units).
        pixel_alpha: share of normal map cells above pixel_threshold; a rate per pixel, not per image.
        scheme: how the calibration scores were made out-of-sample.
        detector_hash: of the detector that gave the scores; no other detector's images are judged.
    """

    category: str
    alpha: float
    policy: GatePolicy
    calibration_scores: tuple[float, ...]
    calibration_parts: tuple[int, ...]
    image_threshold: float
    pixel_threshold: float
    pixel_alpha: float
    scheme: Scheme
    detector_hash: str

    @classmethod
    def calibrate(
        cls,
        normals: Sequence[Detection],
        *,
        group_ids: Sequence[str],
        category: str,
        alpha: float,
        pixel_alpha: float,
        scheme: Scheme,
        allow_transductive: bool,
    ) -> "CalibratedGate":
        """Returns a gate of policy "detector" calibrated on normal images; `with_policy` gives the others.

        Args:
            normals: out-of-sample detections of normal images by one detector.
            group_ids: the physical part each of them shows, in order.
            category: for messages and reports.
            alpha: the false-alarm rate asked for.
            pixel_alpha: share of normal map cells that may exceed the pixel threshold, in (0, 1).
            scheme: how the detections were made out-of-sample.
            allow_transductive: accept a transductive detector although no guarantee holds for it.

        Raises:
            GateError: if the detections are none, in-sample, or of several detectors; if alpha cannot be reached; if
                the detector is transductive and that is not allowed.
        """
        if scheme.transductive and not allow_transductive:
            raise GateError(
                f"{category}: the detector is transductive (it looks at the test batch), so no false-alarm rate can be "
                f"guaranteed; choose another detector or set gate.allow_transductive=true"
            )
        detector_hash = _common_detector_hash(normals, category=category)
        scores = np.array([detection.anomaly_score for detection in normals], dtype=np.float64)
        parts = part_numbers(group_ids)
        return cls(
            category=category,
            alpha=alpha,
            policy="detector",
            calibration_scores=tuple(scores.tolist()),
            calibration_parts=parts,
            image_threshold=image_threshold(part_scores(scores, parts), alpha=alpha),
            pixel_threshold=pixel_threshold([detection.anomaly_map for detection in normals], pixel_alpha=pixel_alpha),
            pixel_alpha=pixel_alpha,
            scheme=scheme,
            detector_hash=detector_hash,
        )

    @property
    def num_calibration(self) -> int:
        """How many normal parts the gate was calibrated on; as many as images if no part is seen twice."""
        return len(set(self.calibration_parts))

    @property
    def guarantee(self) -> Guarantee | None:
        """What the calibration promises about policy "detector"; None for a transductive detector: nothing."""
        if self.scheme.transductive:
            return None
        num_images = len(self.calibration_scores)
        return guarantee(self.num_calibration, self.alpha, scheme=self.scheme, num_images=num_images)

    def calibration_array(self) -> Scores:
        """Returns the calibration scores, the highest of each part, as float64 (n,)."""
        return part_scores(np.array(self.calibration_scores, dtype=np.float64), self.calibration_parts)

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
            "calibration_parts": list(self.calibration_parts),
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
        scheme = row["scheme"]
        if row["policy"] not in get_args(GatePolicy) or scheme["kind"] not in get_args(CalibrationKind):
            raise ArtifactError(
                f"gate file: policy {row['policy']!r} or calibration {scheme['kind']!r} is unknown; calibrate again"
            )
        lists = {name: tuple(row[name]) for name in ("calibration_scores", "calibration_parts")}
        gate = cls(**{**{name: row[name] for name in names}, **lists, "scheme": Scheme(**scheme)})
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
