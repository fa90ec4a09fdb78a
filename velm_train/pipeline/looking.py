"""Detections in; gates, decisions and regions out: who goes on, and where to look."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from velm_train.core.artifacts import ArtifactStore, StageKey, write_atomic
from velm_train.core.images import read_gt_masks
from velm_train.core.records import Detection, GateDecision, GatePolicy, ImageRecord, Region, Role
from velm_train.gating.gate import CalibratedGate
from velm_train.gating.guarantees import Scheme
from velm_train.pipeline.detection import CategoryDetections
from velm_train.regions.extract import Binarisation, regions_from_gt_mask, regions_from_map

GATES_VERSION = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class RegionSettings:
    """How regions are cut from a map; see `regions.extract`."""

    binarisation: Binarisation
    min_area_px: int
    merge_distance_px: int
    max_regions: int
    diffuse_fraction: float


@dataclass(frozen=True, kw_only=True, slots=True)
class GatedImage:
    """One image after the gate: what the language model is, or is not, asked about.

    Attributes:
        group: "seen" or "unseen" category.
        regions: empty if the gate lets the image pass.
    """

    record: ImageRecord
    role: Role
    group: str
    detection: Detection
    decision: GateDecision
    regions: tuple[Region, ...]


def calibrate_gates(
    *,
    store: ArtifactStore,
    detections: Mapping[str, CategoryDetections],
    group_ids: Mapping[str, str],
    num_folds: int,
    alpha: float,
    pixel_alpha: float,
    allow_transductive: bool,
) -> dict[str, CalibratedGate]:
    """Calibrates one gate per category on its normal images and keeps them as one artefact.

    Args:
        store: where the artefact lies.
        detections: category -> its detections.
        group_ids: image_id -> the physical part it shows.
        num_folds: of detectors that calibrate by folds.
        alpha: the false-alarm rate asked for.
        pixel_alpha: share of normal map cells that may exceed the pixel threshold.
        allow_transductive: accept detectors for which no guarantee holds.

    Raises:
        GateError: if a category's normals are too few for alpha, or the detector cannot calibrate a gate.
    """
    key = StageKey(
        stage="gates",
        version=GATES_VERSION,
        inputs={
            name: {
                "detector": one.detector_hash,
                "calibration": [[image_id, group_ids[image_id]] for image_id in one.calibration_ids],
            }
            for name, one in detections.items()
        },
        settings={
            "alpha": alpha,
            "pixel_alpha": pixel_alpha,
            "allow_transductive": allow_transductive,
            "num_folds": num_folds,
        },
    )
    gates = {
        category: CalibratedGate.calibrate(
            [found.detections[image_id] for image_id in found.calibration_ids],
            group_ids=[group_ids[image_id] for image_id in found.calibration_ids],
            category=category,
            alpha=alpha,
            pixel_alpha=pixel_alpha,
            scheme=_scheme(found, num_folds=num_folds),
            allow_transductive=allow_transductive,
        )
        for category, found in detections.items()
    }
    content = json.dumps({name: gate.to_json() for name, gate in gates.items()}, indent=1, sort_keys=True)
    store.get_or_build(key, lambda folder: write_atomic(folder / "gates.json", content), title="gates")
    return gates


def _scheme(found: CategoryDetections, *, num_folds: int) -> Scheme:
    folds = num_folds if found.calibration == "k_fold" else 0
    return Scheme(kind=found.calibration, num_folds=folds, transductive=found.transductive)


def look(
    record: ImageRecord,
    detection: Detection,
    gate: CalibratedGate,
    *,
    role: Role,
    group: str,
    policy: GatePolicy,
    settings: RegionSettings,
) -> GatedImage:
    """Decides about one image and, if it goes on, says where to look.

    Under policy "oracle" the regions of an outlined defect come from its ground-truth mask; a defect without a
    mask, and every image under the other policies, gets the detector's regions.
    """
    decision = gate.with_policy(policy).decide(detection, gt_label=record.gt_label if policy == "oracle" else None)
    regions: Sequence[Region] = ()
    if decision.pred_label:
        regions = _regions(record, detection, gate, policy=policy, settings=settings)
    return GatedImage(
        record=record, role=role, group=group, detection=detection, decision=decision, regions=tuple(regions)
    )


def _regions(
    record: ImageRecord,
    detection: Detection,
    gate: CalibratedGate,
    *,
    policy: GatePolicy,
    settings: RegionSettings,
) -> list[Region]:
    if policy == "oracle" and record.gt_label and record.gt_mask_paths:
        return regions_from_gt_mask(
            record.image_id,
            read_gt_masks(record.gt_mask_paths, size_hw=record.size_hw),
            anomaly_map=detection.anomaly_map,
            min_area_px=settings.min_area_px,
            merge_distance_px=settings.merge_distance_px,
            max_regions=settings.max_regions,
        )
    return regions_from_map(
        detection,
        binarisation=settings.binarisation,
        pixel_threshold=gate.pixel_threshold,
        min_area_px=settings.min_area_px,
        merge_distance_px=settings.merge_distance_px,
        max_regions=settings.max_regions,
        diffuse_fraction=settings.diffuse_fraction,
    )
