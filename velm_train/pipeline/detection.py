"""Images and a detector in; out-of-sample detections of every image out, one artefact per fit and category.

role train ──► fit ──► out-of-sample scores ─┐
every other role ──► detect, shard by shard ─┴──► CategoryDetections

A run that is stopped while it detects goes on behind the last finished shard.
"""

import io
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from velm_train.core.artifacts import ArtifactStore, StageKey, write_atomic
from velm_train.core.errors import ArtifactError, DataError, GateError
from velm_train.core.images import LazyImages, read_rgb
from velm_train.core.progress import Advance, Progress
from velm_train.core.records import CalibrationKind, Detection, ImageRecord, Role
from velm_train.detectors.protocol import Detector, RawDetection
from velm_train.detectors.store import DetectionStore, StoredDetections, save_detections
from velm_train.pipeline.reach import is_fitted

logger = logging.getLogger(__name__)

DETECTORS = "detectors"
"""The stage that fits them; `read_state` reads its artefacts."""

FIT_VERSION = 3
DETECT_VERSION = 2
_STATE_NAME = "state.npz"
_SECONDS_NAME = "seconds.json"
_IMAGES_PER_SHARD = 128
_IMAGES_PER_READ = 16
_NUM_READERS = 2
"""Threads that read the next images while the detector looks at the present ones."""

ALL_CATEGORIES = "all categories"
"""What messages call a detector that is fitted on the normals of every category."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CategoryDetections:
    """Every image of one category as the frozen detector sees it.

    Attributes:
        detector_hash: of the fitted detector.
        detector_key: of the artefact of stage DETECTORS that holds its fitted state.
        detections: image_id -> detection; maps are read from disk on access. All are out-of-sample, but for fitted
            images where `calibration` is "split".
        calibration_ids: the normal images that calibrate the gate.
        calibration: how their scores were made out-of-sample.
        transductive: whether the detector looked at the images together.
        seconds_per_image: wall seconds for reading and scoring one image, when it was computed.
    """

    category: str
    detector_hash: str
    detector_key: str
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
    shared: bool,
    progress: Progress,
) -> dict[str, CategoryDetections]:
    """Fits a detector on normal training images and scores every other image.

    Args:
        store: where the artefacts lie.
        records: every image of every role.
        roles: image_id -> role; normals of role train are the fit set.
        make_detector: gives a fresh, unfitted detector.
        shared: False for one detector a category; True for a single one, fitted on the normals of all of them.
        progress: shows one bar over all images.

    Raises:
        DataError: if a category has no normal training image.
    """
    ordered = sorted(records, key=lambda record: record.image_id)
    members: dict[str, list[ImageRecord]] = {category: [] for category in sorted({r.category for r in records})}
    for record in ordered:
        members[record.category].append(record)
    for category, images in members.items():
        if not any(is_fitted(record, roles) for record in images):
            raise DataError(
                f"category {category!r} has no normal training image; add some to train/good or leave it out"
            )
    found: dict[str, CategoryDetections] = {}
    with progress.stage("detect anomalies", total=len(records)) as advance:
        for title, fitted_on in {ALL_CATEGORIES: ordered}.items() if shared else members.items():
            work = _Work(store=store, roles=roles, detector=make_detector(), advance=advance)
            fit_key, fit_folder = work.fit([record for record in fitted_on if is_fitted(record, roles)], title=title)
            for category in members if shared else [title]:
                found[category] = work.detect(members[category], category=category, fit=(fit_key, fit_folder))
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class _Work:
    """One detector with its artefacts."""

    store: ArtifactStore
    roles: Mapping[str, Role]
    detector: Detector
    advance: Advance

    def fit(self, bank: Sequence[ImageRecord], *, title: str) -> tuple[StageKey, Path]:
        """Fits the detector on these images, or finds it fitted."""
        key = StageKey(
            stage=DETECTORS,
            version=FIT_VERSION,
            inputs={"category": title, "images": [[one.image_id, one.sha256, one.group_id] for one in bank]},
            settings={"detector": self.detector.settings_hash},
        )
        return key, self.store.get_or_build(key, lambda folder: self._fit(bank, folder), title=f"detector of {title}")

    def _fit(self, bank: Sequence[ImageRecord], folder: Path) -> None:
        self.detector.fit(
            LazyImages([record.image_path for record in bank]),
            image_ids=[record.image_id for record in bank],
            group_ids=[record.group_id for record in bank],
        )
        payload = io.BytesIO()
        np.savez(payload, allow_pickle=False, **self.detector.state())
        write_atomic(folder / _STATE_NAME, payload.getvalue())
        known = self.detector.calibration == "split"  # then it has no word about images that it knows but the usual one
        if known:
            raw = self.detector.detect(
                LazyImages([record.image_path for record in bank]), image_ids=[record.image_id for record in bank]
            )
        else:
            raw = self.detector.out_of_sample()
        bound = [
            _bind(one, record, self.detector, out_of_sample=not known) for one, record in zip(raw, bank, strict=True)
        ]
        save_detections(bound, folder)
        self.advance(len(bank))

    def detect(
        self, records: Sequence[ImageRecord], *, category: str, fit: tuple[StageKey, Path]
    ) -> CategoryDetections:
        """Scores the images of one category that were not fitted, or finds them scored."""
        fit_key, fit_folder = fit
        fitted = [record for record in records if is_fitted(record, self.roles)]
        others = [record for record in records if not is_fitted(record, self.roles)]
        key = StageKey(
            stage="detections",
            version=DETECT_VERSION,
            inputs={"detector": fit_key.key, "images": [[one.image_id, one.sha256] for one in others]},
            settings={},
        )
        shards = list(_shards(others, whole=self.detector.transductive))

        def build(folder: Path) -> None:
            self._detect_shards(shards, folder, fit_folder=fit_folder)

        folder = self.store.get_or_build(key, build, title=f"detections of {category}")
        detected = StoredDetections([folder / name for name, _ in shards])
        left_out = StoredDetections([fit_folder])
        held_out = tuple(one.image_id for one in others if self.roles[one.image_id] == "calibration")
        if not held_out and self.detector.calibration == "split":
            raise GateError(
                f"category {category!r}: this detector has seen the good images it is fitted on and cannot leave them "
                "out, so they calibrate nothing; hold some out with protocol.calibration_fraction=0.5"
            )
        return CategoryDetections(
            category=category,
            detector_hash=left_out[fitted[0].image_id].detector_hash,
            detector_key=fit_key.key,
            detections=_Chained({one.image_id: left_out for one in fitted} | dict.fromkeys(detected, detected)),
            calibration_ids=held_out or tuple(one.image_id for one in fitted),
            calibration="split" if held_out else self.detector.calibration,
            transductive=self.detector.transductive,
            seconds_per_image=json.loads((folder / _SECONDS_NAME).read_text())["seconds_per_image"],
        )

    def _detect_shards(
        self, shards: Sequence[tuple[str, Sequence[ImageRecord]]], folder: Path, *, fit_folder: Path
    ) -> None:
        self.detector.load_state(read_state(fit_folder))
        timings = []
        for name, records in shards:
            done = _finished_seconds(folder / name, records, detector=self.detector)
            if done is None:
                started = time.perf_counter()
                save_detections(list(_detect(self.detector, records, advance=self.advance)), folder / name)
                done = (time.perf_counter() - started) / len(records)
                write_atomic(folder / name / _SECONDS_NAME, json.dumps({"seconds_per_image": done}))
            else:
                self.advance(len(records))
            timings += [done] * len(records)
        seconds = float(np.mean(timings)) if timings else 0.0
        write_atomic(folder / _SECONDS_NAME, json.dumps({"seconds_per_image": seconds}))


class _Chained(Mapping[str, Detection]):
    """Several mappings as one, without copying."""

    def __init__(self, sources: Mapping[str, Mapping[str, Detection]]) -> None:
        self._sources = sources

    def __len__(self) -> int:
        return len(self._sources)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __getitem__(self, image_id: str) -> Detection:
        return self._sources[image_id][image_id]


def _shards(records: Sequence[ImageRecord], *, whole: bool) -> Iterator[tuple[str, Sequence[ImageRecord]]]:
    """Yields folder name and images of every shard; a transductive detector has to see all images at once."""
    size = max(1, len(records)) if whole else _IMAGES_PER_SHARD
    for start in range(0, len(records), size):
        yield f"shard_{start // size:04d}", records[start : start + size]


def _finished_seconds(folder: Path, records: Sequence[ImageRecord], *, detector: Detector) -> float | None:
    """Returns the seconds per image of a shard that an interrupted run finished, or None if it has to be made."""
    path = folder / _SECONDS_NAME  # written last
    if not path.is_file():
        return None
    try:
        stored = DetectionStore(folder)
        complete = stored.image_ids == [record.image_id for record in records] and all(
            one.detector_hash == detector.identity for one in stored
        )
    except (ArtifactError, DataError) as error:
        logger.warning("%s is damaged and made again: %s", folder, error)
        return None
    return float(json.loads(path.read_text())["seconds_per_image"]) if complete else None


def read_state(folder: Path) -> dict[str, np.ndarray]:
    """Returns what a fitted detector's artefact holds, for `Detector.load_state`."""
    with np.load(folder / _STATE_NAME, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _detect(detector: Detector, records: Sequence[ImageRecord], *, advance: Advance) -> Iterator[Detection]:
    """Yields detections in order; the next images are read while the present ones are looked at."""
    if detector.transductive:
        images = LazyImages([record.image_path for record in records])
        raw = detector.detect(images, image_ids=[record.image_id for record in records])
        yield from (_bind(one, record, detector) for one, record in zip(raw, records, strict=True))
        advance(len(records))
        return
    chunks = [records[start : start + _IMAGES_PER_READ] for start in range(0, len(records), _IMAGES_PER_READ)]
    with ThreadPoolExecutor(_NUM_READERS) as pool:
        waiting = pool.map(read_rgb, [record.image_path for record in chunks[0]])
        for number, chunk in enumerate(chunks):
            pictures = list(waiting)
            following = chunks[number + 1] if number + 1 < len(chunks) else []
            waiting = pool.map(read_rgb, [record.image_path for record in following])
            raw = detector.detect(pictures, image_ids=[record.image_id for record in chunk])
            yield from (_bind(one, record, detector) for one, record in zip(raw, chunk, strict=True))
            advance(len(chunk))


def _bind(raw: RawDetection, record: ImageRecord, detector: Detector, *, out_of_sample: bool = True) -> Detection:
    return Detection(
        image_id=record.image_id,
        detector_hash=detector.identity,
        anomaly_score=raw.anomaly_score,
        anomaly_map=raw.anomaly_map,
        image_size_hw=record.size_hw,
        out_of_sample=out_of_sample,
    )
