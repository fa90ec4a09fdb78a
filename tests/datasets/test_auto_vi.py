"""Facts about the reader of AutoVI."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from velm_train.core.errors import DataError
from velm_train.core.images import read_gt_masks
from velm_train.core.progress import SilentProgress
from velm_train.core.records import ImageRecord
from velm_train.datasets.auto_vi import find_auto_vi
from velm_train.datasets.file_index import FileIndex
from velm_train.datasets.indexing import index_images


def put(path: Path, *, value: int = 90, size_hw: tuple[int, int] = (6, 9)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size_hw, 3), value, dtype=np.uint8)).save(path)
    return path


def put_mask(path: Path, *, row: int, value: int, size_hw: tuple[int, int] = (6, 9)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(size_hw, dtype=np.uint8)
    pixels[row] = value
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "AutoVI"
    clip = root / "pipe_clip"
    put(clip / "train/good/0001.png", value=1)
    put(clip / "test/good/0002.JPG", value=2)
    put(clip / "test/unclipped/0089.png", value=3)
    put(clip / "test/operator/0090.png", value=4)
    put_mask(clip / "ground_truth/unclipped/0089/0000.png", row=0, value=255)
    put_mask(clip / "ground_truth/unclipped/0089/0001.png", row=1, value=255)
    put_mask(clip / "ground_truth/operator/0090/0000.png", row=2, value=254)
    return root


def read(root: Path, *categories: str) -> dict[str, ImageRecord]:
    found = find_auto_vi(root, categories=categories)
    index = FileIndex(None, num_threads=1)
    indexed = index_images(found, dataset="autovi", index=index, on_bad_file="refuse", progress=SilentProgress())
    return {record.image_id: record for record in indexed.records}


def error_of(root: Path, *categories: str) -> str:
    with pytest.raises(DataError) as caught:
        read(root, *categories)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_folder_is_the_type_and_masks_lie_one_level_deeper(root: Path) -> None:
    records = read(root)
    assert {name: (record.split, record.defect_type) for name, record in records.items()} == {
        "autovi/pipe_clip/train/good/0001.png": ("train", "good"),
        "autovi/pipe_clip/test/good/0002.JPG": ("test", "good"),
        "autovi/pipe_clip/test/unclipped/0089.png": ("test", "unclipped"),
        "autovi/pipe_clip/test/operator/0090.png": ("test", "operator"),
    }
    defect = records["autovi/pipe_clip/test/unclipped/0089.png"]
    folder = root / "pipe_clip/ground_truth/unclipped/0089"
    assert defect.gt_mask_paths == (folder / "0000.png", folder / "0001.png")
    rows = read_gt_masks(defect.gt_mask_paths, size_hw=defect.size_hw).all(axis=1)
    assert rows.tolist() == [True, True, False, False, False, False]


def test_folders_that_the_config_names_stay_and_others_get_the_types_of_their_pixels(root: Path) -> None:
    put(root / "pipe_clip/test/multiple/0091.png", value=5)
    put_mask(root / "pipe_clip/ground_truth/multiple/0091/0000.png", row=0, value=255)
    put_mask(root / "pipe_clip/ground_truth/multiple/0091/0001.png", row=1, value=254)
    config = [{"defect_name": "unclipped", "pixel_value": 255}, {"defect_name": "operator", "pixel_value": 254}]
    (root / "pipe_clip/defects_config.json").write_text(json.dumps(config))
    types = {record.image_path.name: record.defect_type for record in read(root).values() if record.gt_label}
    assert types == {"0089.png": "unclipped", "0090.png": "operator", "0091.png": "operator+unclipped"}


def test_stray_mask_folder_is_refused(root: Path) -> None:
    put_mask(root / "pipe_clip/ground_truth/unclipped/0100/0000.png", row=0, value=255)
    assert "unclipped/0100" in error_of(root)


def test_masks_of_a_type_without_images_are_refused(root: Path) -> None:
    put_mask(root / "pipe_clip/ground_truth/gone/0001/0000.png", row=0, value=255)
    assert "gone have no images" in error_of(root)


def test_mask_of_another_size_is_refused(root: Path) -> None:
    put_mask(root / "pipe_clip/ground_truth/unclipped/0089/0001.png", row=0, value=255, size_hw=(6, 8))
    assert "is 6x8 (height x width)" in error_of(root)


def test_unreadable_files_are_refused_by_name(root: Path) -> None:
    (root / "pipe_clip/test/unclipped/0089.png").write_bytes(b"")
    assert "0089.png cannot be read" in error_of(root)


def test_unknown_category_is_refused_with_the_nearest_spelling(root: Path) -> None:
    assert "did you mean 'pipe_clip'" in error_of(root, "pipe_clips")


def test_empty_category_is_refused(root: Path) -> None:
    (root / "tank_screw/train/good").mkdir(parents=True)
    (root / "tank_screw/test").mkdir()
    assert "'tank_screw': no images in" in error_of(root)


@pytest.mark.parametrize(
    ("level", "expected"), [("pipe_clip", "give its parent folder"), ("..", "set dataset.root to")]
)
def test_wrong_level_of_root_is_refused(root: Path, level: str, expected: str) -> None:
    assert expected in error_of((root / level).resolve())
