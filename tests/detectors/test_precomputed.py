"""Maps of another system: names, formats, scores, honesty, and every kind of wrong file."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from velm_train.core.errors import ArtifactError, ConfigError, DataError, GateError
from velm_train.detectors.precomputed import PrecomputedMaps, PrecomputedSettings
from velm_train.detectors.protocol import Detector

VALUES = np.arange(12, dtype=np.float32).reshape(3, 4) / 10
IDS = ["set/nut/train/good/000.png", "set/nut/train/good/001.png"]
BAD = "set/nut/test/bent/000.png"


def write(folder: Path, name: str, values: np.ndarray = VALUES) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        Image.fromarray(values).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (*IDS, BAD):
        write(tmp_path / "maps", name.replace(".png", ".npy"))
    return tmp_path / "maps"


def make(folder: Path, *, scores: Path | None = None, top: float = 0.0) -> PrecomputedMaps:
    return PrecomputedMaps(PrecomputedSettings(folder=folder, scores=scores, score_top_fraction=top))


def fitted(folder: Path, **changes) -> PrecomputedMaps:
    detector = make(folder, **changes)
    detector.fit([np.zeros((5, 7, 3), dtype=np.uint8)] * 2, image_ids=IDS, group_ids=IDS)
    return detector


def test_it_is_a_detector_that_only_reads(folder):
    detector = make(folder)
    assert isinstance(detector, Detector)
    assert (detector.needs, detector.transductive, detector.calibration) == ({"maps_on_disk"}, False, "split")


def test_map_comes_out_as_written_with_its_maximum_as_score(folder):
    (found,) = fitted(folder).detect([], image_ids=[BAD])
    np.testing.assert_array_equal(found.anomaly_map, VALUES)
    assert found.anomaly_score == pytest.approx(1.1)
    (mean,) = fitted(folder, top=0.25).detect([], image_ids=[BAD])
    assert mean.anomaly_score == pytest.approx(1.0)  # of 0.9, 1.0, 1.1


@pytest.mark.parametrize(
    ("suffix", "values", "expected"),
    [
        (".npy", VALUES.astype(np.float64), VALUES),
        (".tiff", VALUES, VALUES),
        (".tif", (VALUES * 1000).astype(np.uint16), VALUES * 1000 // 1 / 65535),
        (".png", (VALUES * 200).astype(np.uint8), VALUES * 200 // 1 / 255),
        (".png", (VALUES * 1000).astype(np.uint16), VALUES * 1000 // 1 / 65535),
    ],
)
def test_formats_and_the_data_set_in_front_may_be_left_out(tmp_path, suffix, values, expected):
    write(tmp_path, f"nut/test/bent/000{suffix}", values)
    detector = fitted(tmp_path)
    (found,) = detector.detect([], image_ids=[BAD])
    assert found.anomaly_map.dtype == np.float32
    np.testing.assert_allclose(found.anomaly_map, expected, atol=1 / 65535)


def test_missing_and_ambiguous_maps_are_listed_image_by_image(folder):
    write(folder, "nut/test/bent/000.png", (VALUES * 9).astype(np.uint8))
    with pytest.raises(DataError) as caught:
        fitted(folder).detect([], image_ids=[BAD, "set/nut/test/bent/007.png", "set/nut/x.png", IDS[0]])
    message = str(caught.value)
    assert "3 images without exactly one" in message
    assert f"{BAD} has set/nut/test/bent/000.npy, nut/test/bent/000.png" in message
    assert "set/nut/test/bent/007.png has none of set/nut/test/bent/007.npy, nut/test/bent/007.npy" in message
    assert IDS[0] not in message
    with pytest.raises(DataError, match="belongs to several images"):
        fitted(folder).detect([], image_ids=[IDS[0], IDS[0].replace("png", "jpg")])
    with pytest.raises(DataError, match="and 5 more"):
        fitted(folder).detect([], image_ids=[f"set/nut/{number}.png" for number in range(25)])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((3, 4), np.nan), "not finite"),
        (np.full((3, 4), 1e300), "not finite"),
        (np.zeros((1, 3, 4)), "rows and columns"),
        (np.zeros((0, 4)), "rows and columns"),
        (np.full((3, 4), "x"), "rows and columns"),
        (np.full((3, 4), 1j), "rows and columns"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_wrong_arrays_are_refused_by_name(tmp_path, values, message):
    path = write(tmp_path, "nut/test/bent/000.npy", values)
    with pytest.raises(DataError, match=message) as caught:
        fitted(tmp_path).detect([], image_ids=[BAD])
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01"])
@pytest.mark.parametrize("suffix", [".npy", ".png", ".tiff"])
def test_damaged_files_are_refused_by_name(tmp_path, content, suffix):
    path = tmp_path / f"nut/test/bent/000{suffix}"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read") as caught:
        fitted(tmp_path).detect([], image_ids=[BAD])
    assert str(path) in str(caught.value)


def test_coloured_pictures_are_no_maps(tmp_path):
    write(tmp_path, "nut/test/bent/000.png", np.zeros((3, 4, 3), dtype=np.uint8))
    with pytest.raises(DataError, match="mode RGB"):
        fitted(tmp_path).detect([], image_ids=[BAD])


def test_scores_come_from_the_csv_file_where_there_is_one(folder, tmp_path):
    scores = tmp_path / "scores.csv"
    scores.write_text(f"image_id,score\n{BAD},7.5\nnut/train/good/000.png,-1e-3\n")
    found = fitted(folder, scores=scores).detect([], image_ids=[BAD, IDS[0]])
    assert [one.anomaly_score for one in found] == [7.5, -0.001]
    with pytest.raises(DataError, match=rf"{IDS[1]} has 0 rows"):
        fitted(folder, scores=scores).detect([], image_ids=[BAD, *IDS])
    scores.write_text(f"image_id,score\n{BAD},7.5\nnut/test/bent/000.png,8\n")
    with pytest.raises(DataError, match="has 2 rows"):
        fitted(folder, scores=scores).detect([], image_ids=[BAD])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has columns"),
        ("id,score\na,1\n", "has columns"),
        ("image_id,score\na,high\n", "line 2: score 'high' is no number"),
        ("image_id,score\na\n", "is no number"),
        ("image_id,score\na,1\nb,nan\n", "line 3: score nan is not finite"),
        ("image_id,score\na,1\na,2\n", "line 3: a occurs twice"),
    ],
)
def test_wrong_csv_files_are_refused_with_the_line(folder, tmp_path, text, message):
    scores = tmp_path / "scores.csv"
    scores.write_text(text)
    with pytest.raises(DataError, match=message):
        make(folder, scores=scores)


def test_scores_of_fitted_images_are_refused_unless_declared_out_of_sample(folder):
    with pytest.raises(GateError, match=r"protocol\.calibration_fraction"):
        fitted(folder).out_of_sample()
    (folder / "maps.json").write_text(json.dumps({"out_of_sample": False}))
    with pytest.raises(GateError, match="out_of_sample"):
        fitted(folder).out_of_sample()
    (folder / "maps.json").write_text(json.dumps({"out_of_sample": True}))
    detector = fitted(folder)
    assert detector.calibration == "leave_one_out"
    assert [one.anomaly_score for one in detector.out_of_sample()] == pytest.approx([1.1, 1.1])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"out_of_sample": "yes"}', '{"out_of_sample": true, "x": 1}'])
def test_unclear_declarations_are_refused(folder, text):
    (folder / "maps.json").write_text(text)
    with pytest.raises(DataError, match=r"maps\.json"):
        make(folder)


def test_equal_scores_are_warned_about(folder, caplog):
    with caplog.at_level(logging.WARNING):
        fitted(folder).detect([], image_ids=[BAD, *IDS])
    assert "scaled image by image" in caplog.text


def test_identity_follows_files_and_fitted_images(folder):
    before = fitted(folder)
    again = fitted(folder)
    assert before.identity == again.identity
    again.fit([np.zeros((5, 7, 3), dtype=np.uint8)], image_ids=IDS[:1], group_ids=IDS[:1])
    assert before.identity != again.identity
    write(folder, "set/nut/test/bent/009.npy")
    assert make(folder).settings_hash != before.settings_hash


def test_state_is_restored_and_refused_after_the_files_changed(folder):
    state = fitted(folder).state()
    restored = make(folder)
    with pytest.raises(GateError, match="not fitted"):
        restored.detect([], image_ids=[BAD])
    restored.load_state(state)
    assert restored.identity == fitted(folder).identity
    write(folder, "set/nut/test/bent/009.npy")
    with pytest.raises(ArtifactError, match="belongs to settings"):
        make(folder).load_state(state)


def test_missing_places_and_images_are_named(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no map"):
        make(tmp_path / "empty")
    with pytest.raises(ConfigError, match=r"detector\.maps\.folder"):
        make(tmp_path / "absent")
    with pytest.raises(ConfigError, match=r"detector\.maps\.scores"):
        make(folder, scores=tmp_path / "absent.csv")
    with pytest.raises(ConfigError, match=r"detector\.score_top_fraction"):
        make(folder, top=2.0)
    with pytest.raises(DataError, match="distinct id"):
        make(folder).fit([], image_ids=[], group_ids=[])
