"""Facts about the reader of DAGM 2007."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from velm_train.core.errors import DataError
from velm_train.core.progress import SilentProgress
from velm_train.core.records import ImageRecord
from velm_train.datasets.dagm import find_dagm
from velm_train.datasets.file_index import FileIndex
from velm_train.datasets.indexing import index_images


def put(path: Path, *, value: int, size_hw: tuple[int, int] = (6, 9)) -> Path:
    """Writes a grey picture, as all of the set are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size_hw, value, dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "DAGM"
    put(root / "Class1/Train/0576.PNG", value=1)
    put(root / "Class1/Train/0577.PNG", value=2)
    put(root / "Class1/Train/Label/0577_label.PNG", value=255)
    put(root / "Class1/Test/0001.PNG", value=3)
    put(root / "Class1/Test/0002.PNG", value=4)
    put(root / "Class1/Test/Label/0002_label.PNG", value=255)
    (root / "Class1/Train/Label/Labels.txt").write_text("1\n1\t0\t0576.PNG\t0\t0\n2\t1\t0577.PNG\t1\t0577_label.PNG\n")
    put(root / "Class10/Train/0001.PNG", value=5)
    return root


def read(root: Path, *categories: str) -> dict[str, ImageRecord]:
    found = find_dagm(root, categories=categories)
    index = FileIndex(None, num_threads=1)
    indexed = index_images(found, dataset="dagm", index=index, on_bad_file="refuse", progress=SilentProgress())
    return {record.image_id: record for record in indexed.records}


def error_of(root: Path, *categories: str) -> str:
    with pytest.raises(DataError) as caught:
        read(root, *categories)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_image_with_a_label_is_a_defect_in_either_folder(root: Path) -> None:
    rows = {name: (record.split, record.defect_type) for name, record in read(root).items()}
    assert rows == {
        "dagm/Class1/Train/0576.PNG": ("train", "good"),
        "dagm/Class1/Train/0577.PNG": ("train", "defect"),
        "dagm/Class1/Test/0001.PNG": ("test", "good"),
        "dagm/Class1/Test/0002.PNG": ("test", "defect"),
        "dagm/Class10/Train/0001.PNG": ("train", "good"),
    }
    masks = {record.image_path.name: record.gt_mask_paths for record in read(root, "Class1").values()}
    assert masks["0577.PNG"] == (root / "Class1/Train/Label/0577_label.PNG",)
    assert masks["0576.PNG"] == ()


def test_folder_names_in_lower_case_are_read(root: Path) -> None:
    put(root / "Class2/train/0001.png", value=6)
    put(root / "Class2/train/label/0001_label.png", value=255)
    assert read(root, "Class2")["dagm/Class2/train/0001.png"].gt_label


def test_a_defect_whose_mask_was_lost_is_refused(root: Path) -> None:
    (root / "Class1/Train/Label/0577_label.PNG").unlink()
    message = error_of(root)
    assert "Labels.txt line 3: 0577.PNG is defective but has no mask" in message


def test_two_masks_of_one_image_are_refused(root: Path) -> None:
    put(root / "Class1/Test/Label/0002_label.bmp", value=255)
    assert "are named alike" in error_of(root)


def test_stray_mask_is_refused(root: Path) -> None:
    put(root / "Class1/Test/Label/0009_label.PNG", value=255)
    assert "0009_label.PNG has no image named 0009" in error_of(root)


def test_mask_of_another_size_is_refused(root: Path) -> None:
    put(root / "Class1/Test/Label/0002_label.PNG", value=255, size_hw=(9, 6))
    assert "is 9x6 (height x width)" in error_of(root)


def test_unreadable_image_is_refused_by_name(root: Path) -> None:
    (root / "Class1/Test/0001.PNG").write_bytes(b"no picture")
    assert "0001.PNG cannot be read" in error_of(root)


def test_empty_category_is_refused(root: Path) -> None:
    (root / "Class3/Train").mkdir(parents=True)
    assert "'Class3': no images in" in error_of(root)


def test_unknown_category_is_refused_with_the_nearest_spelling(root: Path) -> None:
    assert "did you mean 'Class10'" in error_of(root, "Class_10")


def test_other_folders_are_said(root: Path) -> None:
    (root / "docs").mkdir()
    assert find_dagm(root, categories=()).notes == ("folders without Train or Test are not categories: docs",)


@pytest.mark.parametrize(("level", "expected"), [("Class1", "give its parent folder"), ("..", "DAGM does: set")])
def test_wrong_level_of_root_is_refused(root: Path, level: str, expected: str) -> None:
    assert expected in error_of((root / level).resolve())
