"""Images and a detector in; out-of-sample detections of every image out, one artefact per category and step.

role train ──► fit ──► out-of-sample scores ─┐
every other role ──► detect ─────────────────┴──► CategoryDetections
"""

import io
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from velm_train.core.artifacts import ArtifactStore, StageKey, write_atomic
from velm_train.core.errors import DataError
from velm_train.core.images import LazyImages
from velm_train.core.progress import Advance, Progress
from velm_train.core.records import CalibrationKind, Detection, ImageRecord, Role
from velm_train.detectors.protocol import Detector, RawDetection
from velm_train.detectors.store import load_detections, save_detections

FIT_VERSION = 2
DETECT_VERSION = 1
_STATE_NAME = "state.npz"
_SECONDS_NAME = "seconds.json"
_IMAGES_PER_READ = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class CategoryDetections:
    """Every image of one category as the frozen detector sees it.

    Attributes:
        detector_hash: of the fitted detector.
        detections: image_id -> detection; all of them out-of-sample.
        calibration_ids: the normal images that calibrate the gate.
        calibration: how their scores were made out-of-sample.
        transductive: whether the detector looked at the images together.
        seconds_per_image: wall seconds for reading and scoring one image, when it was computed.
    """

    category: str
    detector_hash: str
    detections: Mapping[str, Detection]
    calibration_ids: tuple[str, ...]
    calibration: CalibrationKind
    transductive: bool
    seconds_per_image: float


def detect_categories(
    *,
    store: ArtifactStore,
    records: Sequence[ImageRecord],
    roles: Mapping[str, Role],
    make_detector: Callable[[], Detector],
    progress: Progress,
) -> dict[str, CategoryDetections]:
    """Fits one detector per category on its normal training images and scores every other image.

    Args:
        store: where the artefacts lie.
        records: every image of every role.
        roles: image_id -> role; normals of role train are the fit set.
        make_detector: gives a fresh, unfitted detector.
        progress: shows one bar over all images.

    Raises:
        DataError: if a category has no normal training image.
    """
    categories = sorted({record.category for record in records})
    found: dict[str, CategoryDetections] = {}
    with progress.stage("detect anomalies", total=len(records)) as advance:
        for category in categories:
            members = sorted((r for r in records if r.category == category), key=lambda record: record.image_id)
            found[category] = _detect_category(category, members, roles, make_detector(), store=store, advance=advance)
    return found


def _detect_category(
    category: str,
    records: Sequence[ImageRecord],
    roles: Mapping[str, Role],
    detector: Detector,
    *,
    store: ArtifactStore,
    advance: Advance,
) -> CategoryDetections:
    bank = [record for record in records if roles[record.image_id] == "train" and not record.gt_label]
    others = [record for record in records if record not in bank]
    if not bank:
        raise DataError(f"category {category!r} has no normal training image; add some to train/good or leave it out")
    fit_key = StageKey(
        stage="detectors",
        version=FIT_VERSION,
        inputs={"category": category, "images": [[record.image_id, record.sha256, record.group_id] for record in bank]},
        settings={"detector": detector.settings_hash},
    )
    fit_folder = store.get_or_build(
        fit_key, lambda folder: _fit(detector, bank, folder=folder, advance=advance), title=f"detector of {category}"
    )
    rest_key = StageKey(
        stage="detections",
        version=DETECT_VERSION,
        inputs={"detector": fit_key.key, "images": [[record.image_id, record.sha256] for record in others]},
        settings={},
    )

    def detect_rest(folder: Path) -> None:
        detector.load_state(_read_state(fit_folder))
        started = time.perf_counter()
        save_detections(list(_detect(detector, others, advance=advance)), folder)
        seconds = (time.perf_counter() - started) / max(1, len(others))
        write_atomic(folder / _SECONDS_NAME, json.dumps({"seconds_per_image": seconds}))

    rest_folder = store.get_or_build(rest_key, detect_rest, title=f"detections of {category}")
    rest = load_detections(rest_folder)
    out_of_sample = load_detections(fit_folder)
    held_out = tuple(record.image_id for record in others if roles[record.image_id] == "calibration")
    return CategoryDetections(
        category=category,
        detector_hash=out_of_sample[0].detector_hash,
        detections={detection.image_id: detection for detection in [*out_of_sample, *rest]},
        calibration_ids=held_out or tuple(record.image_id for record in bank),
        calibration="split" if held_out else detector.calibration,
        transductive=detector.transductive,
        seconds_per_image=json.loads((rest_folder / _SECONDS_NAME).read_text())["seconds_per_image"],
    )


def _fit(detector: Detector, bank: Sequence[ImageRecord], *, folder: Path, advance: Advance) -> None:
    detector.fit(
        LazyImages([record.image_path for record in bank]),
        image_ids=[record.image_id for record in bank],
        group_ids=[record.group_id for record in bank],
    )
    payload = io.BytesIO()
    np.savez(payload, allow_pickle=False, **detector.state())
    write_atomic(folder / _STATE_NAME, payload.getvalue())
    raw = detector.out_of_sample()
    save_detections([_bind(one, record, detector) for one, record in zip(raw, bank, strict=True)], folder)
    advance(len(bank))


def _read_state(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / _STATE_NAME, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _detect(detector: Detector, records: Sequence[ImageRecord], *, advance: Advance) -> Iterator[Detection]:
    num_at_once = len(records) if detector.transductive else _IMAGES_PER_READ
    for start in range(0, len(records), num_at_once):
        chunk = records[start : start + num_at_once]
        raw = detector.detect(
            LazyImages([record.image_path for record in chunk]), image_ids=[record.image_id for record in chunk]
        )
        yield from (_bind(one, record, detector) for one, record in zip(raw, chunk, strict=True))
        advance(len(chunk))


def _bind(raw: RawDetection, record: ImageRecord, detector: Detector) -> Detection:
    return Detection(
        image_id=record.image_id,
        detector_hash=detector.identity,
        anomaly_score=raw.anomaly_score,
        anomaly_map=raw.anomaly_map,
        image_size_hw=record.size_hw,
        out_of_sample=True,
    )
