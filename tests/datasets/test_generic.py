"""Facts about the readers of plain folders and tables."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from velm_train.core.errors import DataError
from velm_train.core.progress import SilentProgress
from velm_train.core.records import ImageRecord
from velm_train.datasets.file_index import FileIndex
from velm_train.datasets.found import Found
from velm_train.datasets.generic import find_generic_folder, find_table
from velm_train.datasets.indexing import index_images


def put(path: Path, *, value: int = 90, size_hw: tuple[int, int] = (6, 9)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size_hw, 3), value, dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "parts"
    put(root / "gear/good/1.jpg")
    put(root / "gear/rust/2.jpg")
    put(root / "gear/chip/3.jpg")
    put(root / "gear/masks/rust/2.png")
    return root


def indexed(found: Found) -> list[ImageRecord]:
    index = FileIndex(None, num_threads=1)
    read = index_images(found, dataset="parts", index=index, on_bad_file="refuse", progress=SilentProgress())
    return list(read.records)


def read(root: Path, *categories: str) -> list[ImageRecord]:
    return indexed(find_generic_folder(root, categories=categories))


def table(path: Path) -> list[ImageRecord]:
    return indexed(find_table(path, categories=[]))


def test_folders_give_type_split_and_mask(root: Path) -> None:
    rows = [(r.image_id, r.split, r.defect_type, r.gt_mask_paths) for r in read(root)]
    assert rows == [
        ("parts/gear/chip/3.jpg", "test", "chip", ()),
        ("parts/gear/good/1.jpg", "train", "good", ()),
        ("parts/gear/rust/2.jpg", "test", "rust", (root / "gear/masks/rust/2.png",)),
    ]


def test_category_without_normals_is_refused(root: Path) -> None:
    put(root / "cog/rust/1.jpg")
    with pytest.raises(DataError, match="'cog': no normal images"):
        read(root)


def test_stray_mask_is_refused(root: Path) -> None:
    put(root / "gear/masks/rust/8.png")
    with pytest.raises(DataError, match=r"8\.png \(one of 1\) has no image"):
        read(root)


def test_unknown_category_is_refused_with_the_nearest_spelling(root: Path) -> None:
    with pytest.raises(DataError, match="did you mean 'gear'"):
        read(root, "gaer")


def test_csv_gives_every_field(root: Path) -> None:
    path = root / "table.csv"
    path.write_text(
        "image,category,defect_type,mask,group,split\n"
        "gear/good/1.jpg,gear,good,,,test\n"
        "gear/rust/2.jpg,gear,rust,gear/masks/rust/2.png,part 4,\n"
    )
    good, rust = table(path)
    assert (good.split, good.group_id, good.gt_mask_paths) == ("test", good.image_id, ())
    assert rust.image_id == "parts/gear/gear/rust/2.jpg"
    assert (rust.split, rust.group_id) == ("test", "part 4")
    assert rust.gt_mask_paths == (root / "gear/masks/rust/2.png",)


def test_csv_and_jsonl_of_the_same_rows_are_equal(root: Path) -> None:
    (root / "t.csv").write_text("image,category,defect_type\ngear/good/1.jpg,gear,good\ngear/chip/3.jpg,gear,chip\n")
    rows = [
        {"image": "gear/good/1.jpg", "category": "gear", "defect_type": "good", "mask": None},
        {"image": "gear/chip/3.jpg", "category": "gear", "defect_type": "chip"},
    ]
    (root / "t.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    assert table(root / "t.csv") == table(root / "t.jsonl")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("t.csv", "image,category\n", "row 1: columns defect_type are missing"),
        ("t.csv", "image,category,defect_typ\n", "did you mean 'defect_type'"),
        ("t.csv", "image,category,defect_type\n", "has no rows"),
        ("t.csv", "image,category,defect_type\ngear/good/1.jpg,,good\n", "row 2: category is empty"),
        ("t.csv", "image,category,defect_type\ngear/good/1.jpg\n", "row 2: category is empty"),
        ("t.csv", "image,category,defect_type\na,b,c,d\n", "row 2: more fields than columns"),
        ("t.csv", "image,category,defect_type\ngear/no.jpg,gear,good\n", r"row 2: image .*no\.jpg"),
        ("t.csv", "image,category,defect_type,split\ngear/good/1.jpg,gear,good,val\n", "row 2: split is 'val'"),
        ("t.csv", "image,category,defect_type,mask\ngear/rust/2.jpg,gear,rust,no.png\n", r"row 2: image .*no\.png"),
        (
            "t.csv",
            "image,category,defect_type\ngear/good/1.jpg,gear,good\ngear/good/1.jpg,gear,good\n",
            "row 3: .*1.jpg have one id, gear/gear/good/1.jpg; every image may be listed once",
        ),
        ("t.jsonl", '{"image": "a"\n', "row 1: not JSON"),
        ("t.jsonl", "\n[1]\n", "row 2: a JSON object is expected, got list"),
        ("t.jsonl", '{"image": 3, "category": "g", "defect_type": "x"}\n', "row 1: image must be text, got 3"),
        ("t.txt", "x", r"must end in \.csv or \.jsonl"),
        ("t.csv", b"image,category,defect_type\n\xff\xfe,a,b\n", "is not UTF-8 text"),
    ],
)
def test_a_wrong_table_is_refused_with_its_row(root: Path, name: str, content: str | bytes, expected: str) -> None:
    path = root / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as caught:
        table(path)
    assert re.search(expected, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        table(tmp_path / "no.csv")
