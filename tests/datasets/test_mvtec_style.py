"""Facts about the reader of MVTec-style folders."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from velm_train.core.errors import DataError
from velm_train.core.hashing import sha256_file
from velm_train.core.progress import SilentProgress
from velm_train.core.records import ImageRecord
from velm_train.datasets.file_index import FileIndex
from velm_train.datasets.indexing import index_images
from velm_train.datasets.mvtec_style import find_mvtec_style


def put(path: Path, *, value: int = 90, size_hw: tuple[int, int] = (6, 9)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size_hw, 3), value, dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "mvtec"
    put(root / "bottle/train/good/000.png", value=1)
    put(root / "bottle/train/good/001.PNG", value=2)
    put(root / "bottle/test/good/000.jpg", value=3)
    put(root / "bottle/test/broken_large/000.png", value=4)
    put(root / "bottle/test/broken_large/001_b.bmp", value=5)
    put(root / "bottle/test/broken_large/002.tif", value=6)
    put(root / "bottle/ground_truth/broken_large/000_mask.png", value=255)
    put(root / "bottle/ground_truth/broken_large/001_b.png", value=255)
    put(root / "cable/train/good/a.jpeg", value=7)
    return root


def read(root: Path, *categories: str) -> list[ImageRecord]:
    found = find_mvtec_style(root, categories=categories)
    index = FileIndex(None, num_threads=1)
    indexed = index_images(found, dataset="mvtec", index=index, on_bad_file="refuse", progress=SilentProgress())
    return list(indexed.records)


def error_of(root: Path, *categories: str) -> str:
    with pytest.raises(DataError) as caught:
        read(root, *categories)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_image_of_every_category_is_read_in_order(root: Path) -> None:
    records = read(root)
    assert [record.image_id for record in records] == [
        "mvtec/bottle/test/broken_large/000.png",
        "mvtec/bottle/test/broken_large/001_b.bmp",
        "mvtec/bottle/test/broken_large/002.tif",
        "mvtec/bottle/test/good/000.jpg",
        "mvtec/bottle/train/good/000.png",
        "mvtec/bottle/train/good/001.PNG",
        "mvtec/cable/train/good/a.jpeg",
    ]
    assert records == read(root)
    first = records[0]
    assert (first.category, first.split, first.defect_type, first.size_hw) == ("bottle", "test", "broken_large", (6, 9))
    assert first.sha256 == sha256_file(first.image_path)
    assert first.group_id == first.image_id


def test_masks_are_paired_by_stem_and_may_be_missing(root: Path) -> None:
    masks = {record.image_path.name: record.gt_mask_paths for record in read(root) if record.gt_label}
    folder = root / "bottle/ground_truth/broken_large"
    assert masks == {"000.png": (folder / "000_mask.png",), "001_b.bmp": (folder / "001_b.png",), "002.tif": ()}


def test_a_folder_of_masks_belongs_to_one_image(root: Path) -> None:
    put(root / "bottle/ground_truth/broken_large/002/b.png")
    put(root / "bottle/ground_truth/broken_large/002/a.png")
    masks = {record.image_path.name: record.gt_mask_paths for record in read(root, "bottle")}
    folder = root / "bottle/ground_truth/broken_large/002"
    assert masks["002.tif"] == (folder / "a.png", folder / "b.png")


def test_masks_may_lie_in_groundtruth(root: Path) -> None:
    (root / "bottle/ground_truth").rename(root / "bottle/groundtruth")
    masks = {record.image_path.name: record.gt_mask_paths for record in read(root, "bottle") if record.gt_label}
    assert masks["000.png"] == (root / "bottle/groundtruth/broken_large/000_mask.png",)


def test_a_folder_may_stand_for_several_types(root: Path) -> None:
    put(root / "cable/test/cut+bent/0.png")
    types = {record.defect_type: record.defect_types for record in read(root, "cable")}
    assert types == {"good": (), "bent+cut": ("bent", "cut")}


def test_folders_that_are_no_categories_are_noted(root: Path) -> None:
    (root / "papers").mkdir()
    assert find_mvtec_style(root, categories=[]).notes == ("folders without train or test are not categories: papers",)


def test_only_the_requested_category_is_read(root: Path) -> None:
    assert {record.category for record in read(root, "cable")} == {"cable"}


def test_a_turned_camera_picture_has_its_upright_size(root: Path) -> None:
    picture = Image.new("RGB", (9, 6))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(root / "cable/train/good/turned.jpg", exif=exif)
    sizes = {record.image_path.name: record.size_hw for record in read(root, "cable")}
    assert sizes == {"a.jpeg": (6, 9), "turned.jpg": (9, 6)}


def test_groups_file_gives_the_groups(root: Path) -> None:
    (root / "groups.csv").write_text("image,group\ncable/train/good/a.jpeg,part 7\nbottle/gone.png,x\n")
    assert [record.group_id for record in read(root, "cable")] == ["part 7"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("image,group\n", "cable/train/good/a.jpeg is not listed"),
        ("image,group\ncable/train/good/a.jpeg,g\ncable/b.png,g\n", "cable/b.png is listed but not on disk"),
        ("image,group\ncable/train/good/a.jpeg,g\ncable/train/good/a.jpeg,g\n", "row 3.*listed twice"),
        ("image,group\ncable/train/good/a.jpeg,\n", "row 2: image and group must both be given"),
        ("file,group\n", "expected image and group"),
    ],
)
def test_a_wrong_groups_file_is_refused(root: Path, content: str, expected: str) -> None:
    (root / "groups.csv").write_text(content)
    assert re.search(expected, error_of(root, "cable"))


def test_missing_root_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in error_of(tmp_path / "nowhere")


def test_a_file_as_root_is_refused(tmp_path: Path) -> None:
    assert "is a file" in error_of(put(tmp_path / "x.png"))


def test_empty_root_is_refused(tmp_path: Path) -> None:
    assert "holds no folders" in error_of(tmp_path)


def test_root_without_any_category_is_refused(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    assert "holds no category" in error_of(tmp_path)


def test_a_category_given_as_root_is_refused(root: Path) -> None:
    assert "give its parent folder" in error_of(root / "bottle")


def test_unknown_category_is_refused_with_the_nearest_spelling(root: Path) -> None:
    assert "did you mean 'bottle'" in error_of(root, "botle")


def test_category_without_normal_training_images_is_refused(root: Path) -> None:
    (root / "cable/train/good/a.jpeg").unlink()
    assert "'cable': no images in" in error_of(root)


def test_defects_in_the_training_folder_are_refused(root: Path) -> None:
    put(root / "cable/train/cut/000.png")
    assert "holds cut beside good" in error_of(root)


def test_unreadable_image_is_refused_by_name(root: Path) -> None:
    (root / "cable/train/good/broken.png").write_bytes(b"not a picture")
    assert "broken.png cannot be read" in error_of(root)


def test_stray_mask_is_refused_by_name(root: Path) -> None:
    put(root / "bottle/ground_truth/broken_large/009_mask.png")
    assert "009_mask.png" in error_of(root)


def test_masks_of_a_type_without_images_are_refused(root: Path) -> None:
    put(root / "bottle/ground_truth/dent/000_mask.png")
    assert "dent" in error_of(root)


def test_nested_masks_of_a_type_without_images_are_refused(root: Path) -> None:
    put(root / "bottle/ground_truth/dent/000/0.png")
    assert "dent does not exist" in error_of(root)


def test_both_folders_of_masks_are_refused(root: Path) -> None:
    put(root / "bottle/groundtruth/broken_large/000_mask.png")
    assert "holds both ground_truth and groundtruth" in error_of(root)


@pytest.mark.parametrize(
    ("image", "mask", "expected"),
    [
        ("000.bmp", "x/0.png", r"000_mask\.png fits two images, .*000\.(bmp|png) and .*000\.(bmp|png); rename one"),
        ("x.png", "000.png", r"000\.png has two masks, .*000_mask\.png and .*000\.png; keep one of them"),
        ("x.png", "000_mask.bmp", r"masks .*000_mask\.bmp and .*000_mask\.png have one name; keep one"),
        ("x.png", "000_mask/0.png", r"masks .*000_mask\.png and .*000_mask have one name; keep one"),
    ],
)
def test_an_ambiguous_mask_is_refused(root: Path, image: str, mask: str, expected: str) -> None:
    put(root / "bottle/test/broken_large/x.png")
    put(root / "bottle/test/broken_large" / image)
    put(root / "bottle/ground_truth/broken_large" / mask)
    assert re.search(expected, error_of(root))


def test_an_empty_folder_of_masks_is_refused(root: Path) -> None:
    (root / "bottle/ground_truth/broken_large/002").mkdir()
    assert "002 holds no pictures; remove it" in error_of(root)


def test_an_empty_folder_of_images_is_refused(root: Path) -> None:
    (root / "bottle/test/dent").mkdir()
    assert "dent holds no images; put some there or remove the folder" in error_of(root)


def test_an_image_must_not_be_good_and_defective(root: Path) -> None:
    put(root / "cable/test/cut+good/0.png")
    assert "'good' stands alone" in error_of(root)


def test_mask_of_another_size_is_refused(root: Path) -> None:
    put(root / "bottle/ground_truth/broken_large/000_mask.png", size_hw=(6, 8))
    assert "is 6x8 (height x width)" in error_of(root)
