"""Facts about the reader of MVTec LOCO."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from velm_train.core.errors import DataError
from velm_train.core.images import read_gt_masks
from velm_train.core.progress import SilentProgress
from velm_train.core.records import ImageRecord
from velm_train.datasets.file_index import FileIndex
from velm_train.datasets.indexing import Indexed, index_images
from velm_train.datasets.mvtec_loco import find_mvtec_loco

CONFIG = [
    {"defect_name": "missing_pin", "pixel_value": 255, "saturation_threshold": 1.0, "relative_saturation": True},
    {"defect_name": "extra_pin", "pixel_value": 254, "saturation_threshold": 6300, "relative_saturation": False},
    {"defect_name": "bent", "pixel_value": 250, "saturation_threshold": 1.0, "relative_saturation": True},
]


def put(path: Path, *, value: int = 90, size_hw: tuple[int, int] = (6, 9)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size_hw, 3), value, dtype=np.uint8)).save(path)
    return path


def put_mask(path: Path, *values: int, size_hw: tuple[int, int] = (6, 9)) -> Path:
    """Writes a grey mask whose row i holds values[i]; the last row stays 0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(size_hw, dtype=np.uint8)
    for row, value in enumerate(values):
        pixels[row] = value
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "loco"
    pins = root / "pushpins"
    put(pins / "train/good/000.png", value=1)
    put(pins / "train/good/001.png", value=2)
    put(pins / "validation/good/000.png", value=3)
    put(pins / "test/good/000.png", value=4)
    put(pins / "test/logical_anomalies/000.png", value=5)
    put(pins / "test/logical_anomalies/001.PNG", value=6)
    put(pins / "test/structural_anomalies/000.png", value=7)
    put_mask(pins / "ground_truth/logical_anomalies/000/000.png", 255)
    put_mask(pins / "ground_truth/logical_anomalies/000/001.png", 0, 254)
    put_mask(pins / "ground_truth/logical_anomalies/001/000.png", 254)
    put_mask(pins / "ground_truth/structural_anomalies/000/000.png", 250)
    (pins / "defects_config.json").write_text(json.dumps(CONFIG))
    (pins / "readme.txt").write_text("a text")
    return root


def index(root: Path, *categories: str) -> Indexed:
    found = find_mvtec_loco(root, categories=categories)
    return index_images(
        found,
        dataset="loco",
        index=FileIndex(None, num_threads=1),
        on_bad_file="refuse",
        progress=SilentProgress(),
    )


def read(root: Path, *categories: str) -> dict[str, ImageRecord]:
    return {record.image_id: record for record in index(root, *categories).records}


def error_of(root: Path, *categories: str) -> str:
    with pytest.raises(DataError) as caught:
        read(root, *categories)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_types_are_the_fine_names_and_several_are_joined(root: Path) -> None:
    assert {name: (record.split, record.defect_type) for name, record in read(root).items()} == {
        "loco/pushpins/train/good/000.png": ("train", "good"),
        "loco/pushpins/train/good/001.png": ("train", "good"),
        "loco/pushpins/validation/good/000.png": ("train", "good"),
        "loco/pushpins/test/good/000.png": ("test", "good"),
        "loco/pushpins/test/logical_anomalies/000.png": ("test", "extra_pin+missing_pin"),
        "loco/pushpins/test/logical_anomalies/001.PNG": ("test", "extra_pin"),
        "loco/pushpins/test/structural_anomalies/000.png": ("test", "bent"),
    }


def test_several_masks_of_an_image_are_united(root: Path) -> None:
    record = read(root)["loco/pushpins/test/logical_anomalies/000.png"]
    assert [path.name for path in record.gt_mask_paths] == ["000.png", "001.png"]
    gt_mask = read_gt_masks(record.gt_mask_paths, size_hw=record.size_hw)
    assert gt_mask.shape == (6, 9)
    assert gt_mask[:2].all()
    assert not gt_mask[2:].any()


def test_without_a_config_the_kind_is_the_type_and_it_is_said(root: Path) -> None:
    (root / "pushpins/defects_config.json").unlink()
    kinds = {record.defect_type for record in read(root).values() if record.gt_label}
    assert kinds == {"logical_anomalies", "structural_anomalies"}
    assert any("no defects_config.json" in note for note in index(root).notes)


def test_validation_normals_are_said(root: Path) -> None:
    assert "pushpins: 1 normals of validation are read as train" in index(root).notes


def test_a_defect_without_a_mask_keeps_its_kind_and_it_is_said(root: Path) -> None:
    put(root / "pushpins/test/logical_anomalies/002.png", value=8)
    assert read(root)["loco/pushpins/test/logical_anomalies/002.png"].defect_type == "logical_anomalies"
    assert any("1 defects have no mask" in note for note in index(root).notes)


def test_groups_file_covers_validation_as_well(root: Path) -> None:
    ids = [name.removeprefix("loco/") for name in read(root)]
    (root / "groups.csv").write_text("image,group\n" + "".join(f"{name},g{i}\n" for i, name in enumerate(ids)))
    assert len({record.group_id for record in read(root).values()}) == len(ids)


def test_value_that_the_config_does_not_name_is_refused(root: Path) -> None:
    put_mask(root / "pushpins/ground_truth/logical_anomalies/001/000.png", 7)
    message = error_of(root)
    assert "001/000.png holds the value 7" in message
    assert "254 extra_pin" in message


def test_blank_masks_are_refused(root: Path) -> None:
    put_mask(root / "pushpins/ground_truth/logical_anomalies/001/000.png")
    assert "all masks of" in error_of(root)
    assert "001.PNG are blank" in error_of(root)


def test_mask_of_another_size_is_refused(root: Path) -> None:
    put_mask(root / "pushpins/ground_truth/structural_anomalies/000/000.png", 250, size_hw=(9, 6))
    assert "is 9x6 (height x width)" in error_of(root)


def test_stray_masks_are_refused(root: Path) -> None:
    put_mask(root / "pushpins/ground_truth/logical_anomalies/009/000.png", 255)
    assert "logical_anomalies/009" in error_of(root)


def test_masks_of_a_kind_without_images_are_refused(root: Path) -> None:
    put_mask(root / "pushpins/ground_truth/other_anomalies/000/000.png", 255)
    assert "other_anomalies have no images" in error_of(root)


def test_unreadable_mask_and_image_are_refused_by_name(root: Path) -> None:
    (root / "pushpins/train/good/001.png").write_bytes(b"no picture")
    assert "001.png cannot be read" in error_of(root)
    (root / "pushpins/ground_truth/logical_anomalies/000/001.png").write_bytes(b"no picture")
    assert "000/001.png cannot be read" in error_of(root)


def test_grey_images_are_read(root: Path) -> None:
    put_mask(root / "pushpins/test/good/001.png", 40)
    assert read(root)["loco/pushpins/test/good/001.png"].size_hw == (6, 9)


def test_defects_in_validation_are_refused(root: Path) -> None:
    put(root / "pushpins/validation/bent/000.png")
    assert "holds bent beside good" in error_of(root)


def test_unknown_category_is_refused_with_the_nearest_spelling(root: Path) -> None:
    assert "did you mean 'pushpins'" in error_of(root, "pushpin")


def test_empty_category_is_refused(root: Path) -> None:
    for name in ("train/good", "test"):
        (root / "screw_bag" / name).mkdir(parents=True)
    assert "'screw_bag': no images in" in error_of(root)


@pytest.mark.parametrize(("level", "expected"), [("pushpins", "give its parent folder"), ("..", "set dataset.root to")])
def test_wrong_level_of_root_is_refused(root: Path, level: str, expected: str) -> None:
    assert expected in error_of((root / level).resolve())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "cannot be read as JSON"),
        ("{}", "a list of defect types is expected"),
        ("[3]", "entry 1: an object with defect_name"),
        ('[{"defect_name": "a+b", "pixel_value": 1}]', "entry 1: defect_name is 'a+b'"),
        ('[{"defect_name": "good", "pixel_value": 1}]', "entry 1: defect_name is 'good'"),
        ('[{"defect_name": "a", "pixel_value": true}]', "entry 1: pixel_value is True"),
        ('[{"defect_name": "a", "pixel_value": 0}]', "entry 1: pixel_value is 0"),
        (
            '[{"defect_name": "a", "pixel_value": 1}, {"defect_name": "b", "pixel_value": 1}]',
            "entry 2: pixel_value 1 is already that of 'a'",
        ),
    ],
)
def test_wrong_config_is_refused(root: Path, content: str, expected: str) -> None:
    (root / "pushpins/defects_config.json").write_text(content)
    assert expected in error_of(root)
