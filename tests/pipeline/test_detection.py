"""Every image gets one out-of-sample detection, computed once."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from velm_train.core.artifacts import ArtifactStore
from velm_train.core.errors import DataError
from velm_train.core.images import LazyImages, read_rgb
from velm_train.core.progress import SilentProgress
from velm_train.detectors.patchcore import PatchCore
from velm_train.detectors.protocol import RawDetection
from velm_train.pipeline import detection as detection_module
from velm_train.pipeline.detection import CategoryDetections, detect_categories

Detect = Callable[..., dict[str, CategoryDetections]]


@pytest.fixture
def detect(store: ArtifactStore, progress, new_detector: Callable[..., PatchCore]) -> Detect:
    def run(parts, *, records=None, roles=None, make_detector=None, shared=False) -> dict[str, CategoryDetections]:
        return detect_categories(
            store=ArtifactStore(store.root, progress=progress),
            records=parts.records if records is None else records,
            roles=parts.roles if roles is None else roles,
            make_detector=make_detector or new_detector,
            shared=shared,
            progress=progress,
        )

    return run


def built(store: ArtifactStore) -> set[str]:
    return {f"{path.parent.name}/{path.name}" for path in store.root.glob("*/*") if not path.name.startswith(".")}


def test_every_image_of_a_category_has_one_detection_out_of_sample(parts, detections) -> None:
    for category in ("felt", "steel"):
        members = {record.image_id for record in parts.records if record.category == category}
        assert set(detections[category].detections) == members
        assert all(one.out_of_sample for one in detections[category].detections.values())
        assert {one.detector_hash for one in detections[category].detections.values()} == {
            detections[category].detector_hash
        }


def test_normal_training_images_are_scored_without_themselves_and_the_others_plainly(
    parts, detections, new_detector
) -> None:
    train = [parts.one("felt", f"train/good/00{number}.png") for number in range(4)]
    detector = new_detector()
    ids = [r.image_id for r in train]
    detector.fit([read_rgb(r.image_path) for r in train], image_ids=ids, group_ids=ids)
    felt = detections["felt"]
    for record, left_out in zip(train, detector.out_of_sample(), strict=True):
        assert felt.detections[record.image_id].anomaly_score == left_out.anomaly_score
    for name in ("train/good/004.png", "test/good/000.png", "test/spot/000.png", "test/spot/001.png"):
        record = parts.one("felt", name)
        (plain,) = detector.detect([read_rgb(record.image_path)], image_ids=[record.image_id])
        found = felt.detections[record.image_id]
        assert found.anomaly_score == pytest.approx(plain.anomaly_score, rel=1e-5)
        np.testing.assert_allclose(found.anomaly_map, plain.anomaly_map, rtol=2e-3)  # kept as float16


def test_defects_stand_out(parts, detections) -> None:
    for category in ("felt", "steel"):
        scores = {name: one.anomaly_score for name, one in detections[category].detections.items()}
        normal = [score for name, score in scores.items() if "/good/" in name]
        assert min(score for name, score in scores.items() if "/spot/" in name) > 1.2 * max(normal)


def test_gate_is_calibrated_on_the_fitted_normals_unless_some_are_held_out(parts, detections, detect) -> None:
    fitted = tuple(f"parts/felt/train/good/00{number}.png" for number in range(4))
    assert (detections["felt"].calibration_ids, detections["felt"].calibration) == (fitted, "leave_one_out")
    held_out = ("parts/felt/train/good/003.png",)
    felt = [record for record in parts.records if record.category == "felt"]
    split = detect(parts, records=felt, roles={**parts.roles, held_out[0]: "calibration"})["felt"]
    assert (split.calibration_ids, split.calibration) == (held_out, "split")


def idle(make: Callable[[], PatchCore]) -> Callable[[], PatchCore]:
    """Returns a maker of detectors that know their settings and refuse to work."""

    def refuse(*arguments: object, **named: object) -> object:
        raise AssertionError("the detector worked again")

    def make_idle() -> PatchCore:
        detector = make()
        detector.fit = detector.detect = refuse
        return detector

    return make_idle


def test_second_call_computes_nothing_and_says_so(parts, detect, progress, new_detector) -> None:
    first = detect(parts)
    assert progress.notes == []
    second = detect(parts, make_detector=idle(new_detector))
    assert len(progress.notes) == 4
    assert all(": reused det" in note for note in progress.notes)
    for category, found in first.items():
        assert second[category].seconds_per_image == found.seconds_per_image
        for image_id, detection in found.detections.items():
            again = second[category].detections[image_id]
            assert again.anomaly_score == detection.anomaly_score
            assert np.array_equal(again.anomaly_map, detection.anomaly_map)


def test_moved_files_are_the_same_files(parts, own_parts, detect, store, new_detector) -> None:
    detect(parts)
    before = built(store)
    assert {r.image_path for r in parts.records}.isdisjoint(r.image_path for r in own_parts.records)
    detect(own_parts, make_detector=idle(new_detector))
    assert built(store) == before


def test_changed_picture_is_detected_anew_and_the_other_category_is_not(own_parts, detect, store) -> None:
    detect(own_parts)
    before = built(store)
    changed = own_parts.one("steel", "test/good/000.png")
    records = [
        dataclasses.replace(record, sha256="0" * 64) if record is changed else record for record in own_parts.records
    ]
    detect(own_parts, records=records)
    (new,) = built(store) - before
    assert new.startswith("detections/")


def test_other_detector_settings_are_another_detector(parts, detect, store, new_detector) -> None:
    first = detect(parts)
    second = detect(parts, make_detector=functools.partial(new_detector, smoothing_sigma=1.0))
    assert first["felt"].detector_hash != second["felt"].detector_hash
    assert len(built(store)) == 8


def test_stopped_run_keeps_the_categories_it_finished(parts, detect, progress, new_detector, store) -> None:
    def stop_at_steel() -> PatchCore:
        detector = new_detector()
        plain = detector.fit

        def fit(images: LazyImages, *, image_ids: list[str], group_ids: list[str]) -> None:
            if "/steel/" in image_ids[0]:
                raise Stopped
            plain(images, image_ids=image_ids, group_ids=group_ids)

        detector.fit = fit
        return detector

    with pytest.raises(Stopped):
        detect(parts, make_detector=stop_at_steel)
    assert len(built(store)) == 2
    detect(parts)
    assert len(progress.notes) == 2
    assert all("of felt: reused" in note for note in progress.notes)
    assert len(built(store)) == 4


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection_module, "_IMAGES_PER_SHARD", 2)
    monkeypatch.setattr(detection_module, "_IMAGES_PER_READ", 1)


class Stopped(KeyboardInterrupt):
    """Stands for Ctrl-C."""


def stopping_at(image_id: str, make: Callable[[], PatchCore], *, seen: list[str]) -> Callable[[], PatchCore]:
    def new() -> PatchCore:
        detector = make()
        plain = detector.detect

        def detect(images: list[np.ndarray], *, image_ids: list[str]) -> list[RawDetection]:
            seen.extend(image_ids)
            if image_id in image_ids:
                raise Stopped
            return plain(images, image_ids=image_ids)

        detector.detect = detect
        return detector

    return new


@pytest.mark.usefixtures("small_shards")
def test_stopped_detection_goes_on_behind_the_last_finished_shard(parts, detect, new_detector) -> None:
    felt = [record for record in parts.records if record.category == "felt"]
    others = sorted(r.image_id for r in felt if not (parts.roles[r.image_id] == "train" and not r.gt_label))
    with pytest.raises(Stopped):
        detect(parts, records=felt, make_detector=stopping_at(others[3], new_detector, seen=[]))
    seen: list[str] = []
    found = detect(parts, records=felt, make_detector=stopping_at("nothing", new_detector, seen=seen))["felt"]
    assert seen == others[2:]
    assert set(found.detections) == {record.image_id for record in felt}


@pytest.mark.usefixtures("small_shards")
def test_damaged_shard_of_a_stopped_run_is_made_again(parts, detect, store, new_detector, caplog) -> None:
    felt = [record for record in parts.records if record.category == "felt"]
    others = sorted(r.image_id for r in felt if not (parts.roles[r.image_id] == "train" and not r.gt_label))
    with pytest.raises(Stopped):
        detect(parts, records=felt, make_detector=stopping_at(others[3], new_detector, seen=[]))
    (maps,) = store.root.glob("detections/.partial-*/shard_0000/maps_*.npy")
    maps.write_bytes(maps.read_bytes()[:100])
    seen: list[str] = []
    detect(parts, records=felt, make_detector=stopping_at("nothing", new_detector, seen=seen))
    assert seen == others
    assert "shard_0000 is damaged and made again" in caplog.text


def test_shared_detector_is_fitted_once_on_the_normals_of_every_category(parts, detect, store) -> None:
    found = detect(parts, shared=True)
    assert len([name for name in built(store) if name.startswith("detectors/")]) == 1
    assert found["felt"].detector_hash == found["steel"].detector_hash
    apart = detect(parts)
    for category in ("felt", "steel"):
        assert set(found[category].detections) == set(apart[category].detections)
        assert found[category].calibration_ids == apart[category].calibration_ids
        assert all(record.startswith(f"parts/{category}/") for record in found[category].calibration_ids)


def test_category_without_normal_training_images_is_refused_with_the_remedy(parts, detect) -> None:
    roles = {image_id: "test" if "/steel/" in image_id else role for image_id, role in parts.roles.items()}
    remedy = r"^category 'steel' has no normal training image; add some to train/good or leave it out$"
    with pytest.raises(DataError, match=remedy):
        detect(parts, roles=roles)


def test_unreadable_picture_is_named(own_parts, detect) -> None:
    broken: Path = own_parts.one("felt", "test/spot/001.png").image_path
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(DataError, match=r"001\.png"):
        detect(own_parts)


def test_progress_counts_every_image_once(parts, store, new_detector) -> None:
    class Counting(SilentProgress):
        total = advanced = 0

        @contextmanager
        def stage(self, title: str, *, total: int) -> Iterator[Callable[[int], None]]:
            del title
            self.total += total

            def advance(units: int) -> None:
                self.advanced += units

            yield advance

    counting = Counting()
    detect_categories(
        store=store,
        records=parts.records,
        roles=parts.roles,
        make_detector=new_detector,
        shared=False,
        progress=counting,
    )
    assert counting.total == counting.advanced == len(parts.records)
