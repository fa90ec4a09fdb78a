"""Facts about the reader of Real-IAD."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from velm_train.core.errors import DataError
from velm_train.core.images import read_gt_masks
from velm_train.core.progress import SilentProgress
from velm_train.core.records import ImageRecord
from velm_train.datasets.file_index import FileIndex
from velm_train.datasets.found import Found
from velm_train.datasets.indexing import index_images
from velm_train.datasets.real_iad import REAL_IAD_TYPES, find_real_iad


def put(path: Path, *, size_hw: tuple[int, int] = (6, 9)) -> Path:
    """Writes a picture whose content tells its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    value = sum(str(path.name).encode()) % 250
    Image.fromarray(np.full((*size_hw, 3), value, dtype=np.uint8)).save(path)
    return path


def put_mask(path: Path, *, size_hw: tuple[int, int] = (6, 9)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(size_hw, dtype=np.uint8)
    pixels[1] = 255
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six normal parts and two defective ones, with two of the five views each."""
    root = tmp_path / "Real-IAD/realiad_1024"
    jack = root / "audiojack"
    for part in range(1, 7):
        for view in (1, 2):
            put(jack / f"OK/S{part:04}/audiojack_{part:04}_OK_C{view}_20230101.jpg")
    for code, part in (("AK", 1), ("YW", 2)):
        for view in (1, 2):
            put(jack / f"NG/{code}/S{part:04}/audiojack_{part:04}_NG_{code}_C{view}_20230102.jpg")
    put_mask(jack / "NG/AK/S0001/audiojack_0001_NG_AK_C1_20230102_mask.png")
    put_mask(jack / "NG/AK/S0001/audiojack_0001_NG_AK_C2_20230102_mask.png")
    put_mask(jack / "NG/YW/S0002/audiojack_0002_NG_YW_C1_20230102.png")
    return root


def find(root: Path, *categories: str) -> Found:
    return find_real_iad(root, categories=categories)


def read(root: Path, *categories: str) -> dict[str, ImageRecord]:
    indexed = index_images(
        find(root, *categories),
        dataset="real_iad",
        index=FileIndex(None, num_threads=1),
        on_bad_file="refuse",
        progress=SilentProgress(),
    )
    return {record.image_id.removeprefix("real_iad/audiojack/"): record for record in indexed.records}


def error_of(root: Path, *categories: str) -> str:
    with pytest.raises(DataError) as caught:
        read(root, *categories)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def entry(image: str, code: str = "OK", mask: str | None = None) -> dict[str, Any]:
    return {"category": "audiojack", "anomaly_class": code, "image_path": image, "mask_path": mask}


def put_split(root: Path, *, train: list[Any], test: list[Any], folder: str = "realiad_jsons/realiad_jsons") -> Path:
    path = root.parent / folder / "audiojack.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = {"prefix": "audiojack/", "normal_class": "OK"}
    path.write_text(json.dumps({"meta": meta, "train": train, "test": test}))
    return path


PUBLISHED = {
    "train": [entry("OK/S0001/audiojack_0001_OK_C1_20230101.jpg")],
    "test": [
        entry("OK/S0002/audiojack_0002_OK_C1_20230101.jpg"),
        entry("NG/YW/S0002/audiojack_0002_NG_YW_C2_20230102.jpg"),
        entry(
            "NG/AK/S0001/audiojack_0001_NG_AK_C1_20230102.jpg",
            "AK",
            "NG/AK/S0001/audiojack_0001_NG_AK_C1_20230102_mask.png",
        ),
    ],
}


def test_the_eight_codes_have_their_published_names() -> None:
    assert dict(REAL_IAD_TYPES) == {
        "AK": "pit",
        "BX": "deformation",
        "CH": "abrasion",
        "HS": "scratch",
        "PS": "damage",
        "QS": "missing_parts",
        "YW": "foreign_objects",
        "ZW": "contamination",
    }


def test_without_a_split_file_every_fifth_normal_part_and_all_defective_ones_are_test(root: Path) -> None:
    records = read(root)
    assert len(records) == 16
    normal_parts = {name.split("/")[1]: record.split for name, record in records.items() if name.startswith("OK/")}
    assert normal_parts == {f"S000{n}": "test" if n == 5 else "train" for n in range(1, 7)}
    assert {name: (record.split, record.defect_type) for name, record in records.items() if name.startswith("NG/")} == {
        "NG/AK/S0001/audiojack_0001_NG_AK_C1_20230102.jpg": ("test", "pit"),
        "NG/AK/S0001/audiojack_0001_NG_AK_C2_20230102.jpg": ("test", "pit"),
        "NG/YW/S0002/audiojack_0002_NG_YW_C1_20230102.jpg": ("test", "foreign_objects"),
        "NG/YW/S0002/audiojack_0002_NG_YW_C2_20230102.jpg": ("test", "good"),
    }


def test_views_without_a_mask_are_said(root: Path) -> None:
    assert find(root).notes == (
        "audiojack: no published split; every fifth normal part and all defective parts are test",
        "audiojack: 1 views of defective parts have no mask and are read as normal",
    )


def test_views_of_one_part_are_one_group(root: Path) -> None:
    groups: dict[str, int] = {}
    for record in read(root).values():
        groups[record.group_id] = groups.get(record.group_id, 0) + 1
    assert groups == {
        **{f"audiojack/OK/S000{n}": 2 for n in range(1, 7)},
        "audiojack/NG/AK/S0001": 2,
        "audiojack/NG/YW/S0002": 2,
    }


def test_both_published_mask_names_are_paired(root: Path) -> None:
    masks = {name.split("/")[-1]: record.gt_mask_paths for name, record in read(root).items() if record.gt_label}
    assert {name: [path.name for path in paths] for name, paths in masks.items()} == {
        "audiojack_0001_NG_AK_C1_20230102.jpg": ["audiojack_0001_NG_AK_C1_20230102_mask.png"],
        "audiojack_0001_NG_AK_C2_20230102.jpg": ["audiojack_0001_NG_AK_C2_20230102_mask.png"],
        "audiojack_0002_NG_YW_C1_20230102.jpg": ["audiojack_0002_NG_YW_C1_20230102.png"],
    }
    record = read(root)["NG/AK/S0001/audiojack_0001_NG_AK_C1_20230102.jpg"]
    assert read_gt_masks(record.gt_mask_paths, size_hw=(6, 9)).sum() == 9


@pytest.mark.parametrize("folder", ["realiad_jsons/realiad_jsons", "realiad_jsons"])
def test_the_published_split_is_taken_and_the_rest_is_said(root: Path, folder: str) -> None:
    put_split(root, **PUBLISHED, folder=folder)
    assert {name: (record.split, record.defect_type) for name, record in read(root).items()} == {
        "OK/S0001/audiojack_0001_OK_C1_20230101.jpg": ("train", "good"),
        "OK/S0002/audiojack_0002_OK_C1_20230101.jpg": ("test", "good"),
        "NG/YW/S0002/audiojack_0002_NG_YW_C2_20230102.jpg": ("test", "good"),
        "NG/AK/S0001/audiojack_0001_NG_AK_C1_20230102.jpg": ("test", "pit"),
    }
    assert find(root).notes == ("audiojack: 12 views that realiad_jsons/audiojack.json does not list are left out",)


def test_the_parent_that_holds_one_resolution_is_a_root_as_well(root: Path) -> None:
    put_split(root, **PUBLISHED)
    assert read(root.parent) == read(root)


def test_a_part_in_both_lists_is_test(root: Path) -> None:
    other_view = entry("NG/YW/S0002/audiojack_0002_NG_YW_C1_20230102.jpg")
    put_split(root, train=[*PUBLISHED["train"], other_view], test=PUBLISHED["test"])
    splits = {name.split("/")[-1]: record.split for name, record in read(root).items()}
    assert splits["audiojack_0002_NG_YW_C1_20230102.jpg"] == "test"
    assert splits["audiojack_0001_OK_C1_20230101.jpg"] == "train"
    assert "audiojack: 1 parts have views in both lists and are read as test" in find(root).notes


def test_a_listed_image_that_is_not_there_is_refused_with_its_entry(root: Path) -> None:
    put_split(root, train=PUBLISHED["train"], test=[entry("OK/S0009/gone.jpg")])
    assert "audiojack.json test 1: image" in error_of(root)
    assert "gone.jpg does not exist" in error_of(root)


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ([3], "test 1: an object is expected, got 3"),
        ([entry("../x.jpg")], "image_path is '../x.jpg'; a path below the category folder"),
        ([{"anomaly_class": "OK"}], "image_path is None; text is expected"),
        ([{"image_path": "OK/S0001/x.jpg"}], "anomaly_class is None; text is expected"),
        ([{**entry("OK/S0001/x.jpg"), "category": "mint"}], "category is 'mint' in the file of 'audiojack'"),
        ([entry("OK/S0001/x.jpg", "AK", "/x.png")], "mask_path is '/x.png'"),
    ],
)
def test_a_wrong_entry_of_the_split_is_refused(root: Path, test: list[Any], expected: str) -> None:
    put_split(root, train=[], test=test)
    assert expected in error_of(root)


@pytest.mark.parametrize(
    ("content", "expected"), [("{", "cannot be read as JSON"), ('{"train": []}', "lists train and test is expected")]
)
def test_a_wrong_split_file_is_refused(root: Path, content: str, expected: str) -> None:
    put_split(root, train=[], test=[]).write_text(content)
    assert expected in error_of(root)


def test_unknown_code_stays_as_it_is_and_is_said(root: Path) -> None:
    put(root / "audiojack/NG/XX/S0003/a_C1.JPG")
    put_mask(root / "audiojack/NG/XX/S0003/a_C1_mask.png")
    assert read(root)["NG/XX/S0003/a_C1.JPG"].defect_type == "XX"
    assert "folders below NG without a known name are types as they are: XX" in find(root).notes


def test_images_saved_as_png_are_told_from_masks_by_name(root: Path) -> None:
    put(root / "audiojack/NG/HS/S0004/b_C1.png")
    put_mask(root / "audiojack/NG/HS/S0004/b_C1_mask.png")
    assert read(root)["NG/HS/S0004/b_C1.png"].defect_type == "scratch"


def test_an_archive_that_unpacked_into_its_own_name_is_read(root: Path) -> None:
    (root / "audiojack").rename(root / "inner")
    (root / "audiojack").mkdir()
    (root / "inner").rename(root / "audiojack/audiojack")
    assert len(read(root)) == 16


def test_two_masks_of_one_view_are_refused(root: Path) -> None:
    put_mask(root / "audiojack/NG/YW/S0002/audiojack_0002_NG_YW_C1_20230102_mask.png")
    assert "are named alike" in error_of(root)


def test_stray_mask_is_refused(root: Path) -> None:
    put_mask(root / "audiojack/NG/AK/S0001/other_mask.png")
    assert "other_mask.png has no image" in error_of(root)


def test_mask_of_a_normal_part_is_refused(root: Path) -> None:
    put_mask(root / "audiojack/OK/S0001/audiojack_0001_OK_C1_20230101_mask.png")
    assert "belongs to a part in OK" in error_of(root)


def test_a_defective_part_without_any_mask_is_refused(root: Path) -> None:
    put(root / "audiojack/NG/AK/S0007/c_C1.jpg")
    assert "NG/AK/S0007 has no mask beside any view" in error_of(root)


def test_mask_of_another_size_is_refused(root: Path) -> None:
    put_mask(root / "audiojack/NG/YW/S0002/audiojack_0002_NG_YW_C1_20230102.png", size_hw=(9, 6))
    assert "is 9x6 (height x width)" in error_of(root)


def test_unreadable_image_is_refused_by_name(root: Path) -> None:
    path = root / "audiojack/OK/S0001/audiojack_0001_OK_C1_20230101.jpg"
    path.write_bytes(b"no picture")
    assert f"{path.name} cannot be read" in error_of(root)


def test_image_outside_a_part_is_refused(root: Path) -> None:
    put(root / "audiojack/OK/loose.jpg")
    assert "lies outside the folder of a part" in error_of(root)


def test_empty_category_is_refused(root: Path) -> None:
    (root / "mint/OK").mkdir(parents=True)
    assert "'mint': no images in" in error_of(root)


def test_unknown_category_is_refused_with_the_nearest_spelling(root: Path) -> None:
    assert "did you mean 'audiojack'" in error_of(root, "audio_jack")


def test_several_resolutions_are_refused_by_name(root: Path) -> None:
    put(root.parent / "realiad_256/audiojack/OK/S0001/x.jpg")
    assert "realiad_1024, realiad_256; set dataset.root to one of them" in error_of(root.parent)


def test_a_category_given_as_root_is_refused(root: Path) -> None:
    assert "give its parent folder" in error_of(root / "audiojack")
