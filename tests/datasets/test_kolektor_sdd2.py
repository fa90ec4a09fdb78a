"""Facts about the reader of KolektorSDD2."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from velm_train.core.errors import DataError
from velm_train.core.progress import SilentProgress
from velm_train.core.records import ImageRecord
from velm_train.datasets.file_index import FileIndex
from velm_train.datasets.indexing import index_images
from velm_train.datasets.kolektor_sdd2 import find_kolektor_sdd2


def put(folder: Path, stem: str, *, value: int, defect: bool, size_hw: tuple[int, int] = (9, 4)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size_hw, 3), value, dtype=np.uint8)).save(folder / f"{stem}.png")
    gt_mask = np.zeros(size_hw, dtype=np.uint8)
    gt_mask[0, 0] = 255 if defect else 0
    Image.fromarray(gt_mask).save(folder / f"{stem}_GT.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "KolektorSDD2"
    put(root / "train", "10000", value=1, defect=False)
    put(root / "train", "10301", value=2, defect=True)
    put(root / "test", "20000", value=3, defect=False, size_hw=(9, 5))
    put(root / "test", "20001", value=4, defect=True)
    return root


def read(root: Path, *categories: str) -> dict[str, ImageRecord]:
    found = find_kolektor_sdd2(root, categories=categories)
    index = FileIndex(None, num_threads=1)
    indexed = index_images(found, dataset="ksdd2", index=index, on_bad_file="refuse", progress=SilentProgress())
    return {record.image_id: record for record in indexed.records}


def error_of(root: Path, *categories: str) -> str:
    with pytest.raises(DataError) as caught:
        read(root, *categories)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_blank_mask_makes_an_image_normal(root: Path) -> None:
    rows = {name: (record.split, record.defect_type, record.size_hw) for name, record in read(root).items()}
    assert rows == {
        "ksdd2/kolektor_sdd2/train/10000.png": ("train", "good", (9, 4)),
        "ksdd2/kolektor_sdd2/train/10301.png": ("train", "defect", (9, 4)),
        "ksdd2/kolektor_sdd2/test/20000.png": ("test", "good", (9, 5)),
        "ksdd2/kolektor_sdd2/test/20001.png": ("test", "defect", (9, 4)),
    }


def test_only_defects_keep_their_mask(root: Path) -> None:
    masks = {record.image_path.stem: record.gt_mask_paths for record in read(root, "kolektor_sdd2").values()}
    assert masks == {
        "10000": (),
        "10301": (root / "train/10301_GT.png",),
        "20000": (),
        "20001": (root / "test/20001_GT.png",),
    }


def test_copies_of_the_published_archive_are_passed_over_and_said(root: Path) -> None:
    for name in ("10301", "10301_GT"):
        (root / f"train/{name} (copy).png").write_bytes((root / f"train/{name}.png").read_bytes())
    assert len(read(root)) == 4
    notes = find_kolektor_sdd2(root, categories=()).notes
    assert notes == ("copies of other files are passed over: train/10301 (copy).png, train/10301_GT (copy).png",)


def test_masks_in_colour_and_upper_case_names_are_read(root: Path) -> None:
    path = root / "test/20001_GT.png"
    Image.open(path).convert("RGB").save(root / "test/20001_GT.PNG", format="PNG")
    path.unlink()
    assert read(root)["ksdd2/kolektor_sdd2/test/20001.png"].gt_label


def test_image_without_a_mask_is_refused(root: Path) -> None:
    (root / "test/20000_GT.png").unlink()
    assert "20000.png has no mask" in error_of(root)


def test_two_images_of_one_name_are_refused(root: Path) -> None:
    Image.new("RGB", (4, 9)).save(root / "test/20000.jpg")
    assert "20000.jpg and" in error_of(root)
    assert "are named alike" in error_of(root)


def test_stray_mask_is_refused(root: Path) -> None:
    (root / "test/20000.png").unlink()
    assert "20000_GT.png has no image" in error_of(root)


def test_mask_of_another_size_is_refused(root: Path) -> None:
    Image.new("L", (5, 9), 255).save(root / "test/20001_GT.png")
    assert "is 9x5 (height x width)" in error_of(root)


@pytest.mark.parametrize("name", ["20001.png", "20001_GT.png"])
def test_unreadable_files_are_refused_by_name(root: Path, name: str) -> None:
    path = root / "test" / name
    path.write_bytes(path.read_bytes()[:40])
    assert f"{name} cannot be read" in error_of(root)


def test_empty_split_is_refused(root: Path) -> None:
    for path in (root / "test").iterdir():
        path.unlink()
    assert "no images in" in error_of(root)


def test_unknown_category_is_refused_with_the_nearest_spelling(root: Path) -> None:
    assert "did you mean 'kolektor_sdd2'" in error_of(root, "kolektor_sdd")


@pytest.mark.parametrize(("level", "expected"), [("train", "holds no folders"), ("..", "KolektorSDD2 does: set")])
def test_wrong_level_of_root_is_refused(root: Path, level: str, expected: str) -> None:
    assert expected in error_of((root / level).resolve())
