"""Detections on disk: exact scores, rounded maps, refusals."""

import json

import numpy as np
import pytest

from velm_train.core.errors import ArtifactError, DataError
from velm_train.core.records import Detection
from velm_train.detectors.store import DetectionStore, load_detections, save_detections


def detection(name: str, map_hw: tuple[int, int], *, factor: float = 1.0, detector: str = "d" * 64) -> Detection:
    generator = np.random.default_rng(len(name) + map_hw[0])
    anomaly_map = (generator.standard_normal(map_hw) * factor).astype(np.float32)
    return Detection(
        image_id=f"set/bolt/{name}",
        detector_hash=detector,
        anomaly_score=float(anomaly_map.max()) / 3,
        anomaly_map=anomaly_map,
        image_size_hw=(map_hw[0] * 7, map_hw[1] * 5),
        out_of_sample=name != "seen",
    )


def test_round_trip_keeps_order_fields_and_exact_scores(tmp_path):
    detections = [detection("b", (6, 9)), detection("seen", (4, 11)), detection("a", (6, 9))]
    save_detections(detections, tmp_path)
    loaded = load_detections(tmp_path)
    assert [one.image_id for one in loaded] == ["set/bolt/b", "set/bolt/seen", "set/bolt/a"]
    for before, after in zip(detections, loaded, strict=True):
        assert after.anomaly_score == before.anomaly_score
        assert (after.image_size_hw, after.out_of_sample) == (before.image_size_hw, before.out_of_sample)
        assert after.detector_hash == before.detector_hash
        assert after.anomaly_map.dtype == np.float32
        np.testing.assert_allclose(after.anomaly_map, before.anomaly_map, rtol=2**-11, atol=1e-6)
    assert sorted(path.name for path in tmp_path.glob("*.npy")) == ["maps_4x11.npy", "maps_6x9.npy"]


@pytest.mark.parametrize("factor", [1e-12, 1e9, 0.0])
def test_any_scale_of_raw_units_survives(tmp_path, factor):
    before = detection("x", (6, 9), factor=factor)
    save_detections([before], tmp_path)
    (after,) = load_detections(tmp_path)
    np.testing.assert_allclose(after.anomaly_map, before.anomaly_map, rtol=2**-11, atol=1e-7 * factor)


def test_saving_what_was_loaded_changes_nothing(tmp_path):
    save_detections([detection("x", (6, 9))], tmp_path / "one")
    (once,) = load_detections(tmp_path / "one")
    save_detections([once], tmp_path / "two")
    (twice,) = load_detections(tmp_path / "two")
    np.testing.assert_array_equal(once.anomaly_map, twice.anomaly_map)


def test_store_gives_single_detections_and_scores_without_the_maps(tmp_path):
    detections = [detection("b", (6, 9)), detection("a", (6, 9))]
    save_detections(detections, tmp_path)
    store = DetectionStore(tmp_path)
    assert len(store) == 2
    assert store.image_ids == ["set/bolt/b", "set/bolt/a"]
    assert store.scores == {one.image_id: one.anomaly_score for one in detections}
    assert store["set/bolt/a"].anomaly_score == detections[1].anomaly_score
    with pytest.raises(ArtifactError, match="set/bolt/missing"):
        store["set/bolt/missing"]


def test_maps_take_two_bytes_a_cell(tmp_path):
    save_detections([detection("a", (60, 90))], tmp_path)
    assert np.load(tmp_path / "maps_60x90.npy").dtype == np.float16


def test_empty_list_survives(tmp_path):
    save_detections([], tmp_path)
    assert load_detections(tmp_path) == []


def test_repeated_images_and_mixed_detectors_are_refused(tmp_path):
    with pytest.raises(DataError, match="only 1 images"):
        save_detections([detection("a", (6, 9)), detection("a", (6, 9))], tmp_path)
    with pytest.raises(DataError, match="several detectors"):
        save_detections([detection("a", (6, 9)), detection("b", (6, 9), detector="e" * 64)], tmp_path)


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"detections\.json cannot be read"):
        load_detections(tmp_path)
    save_detections([detection("a", (6, 9))], tmp_path)
    maps = tmp_path / "maps_6x9.npy"
    maps.write_bytes(maps.read_bytes()[:-40])
    with pytest.raises(ArtifactError, match=r"maps_6x9\.npy"):
        load_detections(tmp_path)
    np.save(maps, np.zeros((2, 6, 9), dtype=np.float16))
    with pytest.raises(ArtifactError, match=r"maps_6x9\.npy holds"):
        load_detections(tmp_path)
    maps.unlink()
    with pytest.raises(ArtifactError, match=r"maps_6x9\.npy cannot be read"):
        load_detections(tmp_path)


def test_other_schema_version_is_refused(tmp_path):
    save_detections([], tmp_path)
    path = tmp_path / "detections.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 9}))
    with pytest.raises(ArtifactError, match="schema version 9"):
        load_detections(tmp_path)
