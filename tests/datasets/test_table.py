"""Facts about tables that could be misread."""

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
from velm_train.datasets.generic import find_table
from velm_train.datasets.indexing import index_images


def put(path: Path, *, row: int = 0, size_hw: tuple[int, int] = (6, 9)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(size_hw, dtype=np.uint8)
    pixels[row] = 255
    Image.fromarray(pixels).save(path)
    return path


def read(path: Path, *categories: str) -> list[ImageRecord]:
    index = FileIndex(None, num_threads=1)
    found = find_table(path, categories=categories)
    return list(
        index_images(found, dataset="parts", index=index, on_bad_file="refuse", progress=SilentProgress()).records
    )


def error_of(path: Path, content: str, *categories: str) -> str:
    path.write_text(content, newline="")
    with pytest.raises(DataError) as caught:
        read(path, *categories)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_several_masks_are_united(tmp_path: Path) -> None:
    put(tmp_path / "a.JPG")
    put(tmp_path / "m0.png", row=0)
    put(tmp_path / "m1.png", row=2)
    (tmp_path / "t.csv").write_text("image,category,defect_type,mask\na.JPG,gear,leak+bubble,m0.png | m1.png\n")
    (record,) = read(tmp_path / "t.csv")
    assert record.defect_type == "bubble+leak"
    rows = read_gt_masks(record.gt_mask_paths, size_hw=record.size_hw).all(axis=1)
    assert rows.tolist() == [True, False, True, False, False, False]


def test_line_separators_inside_a_json_text_do_not_cut_the_row(tmp_path: Path) -> None:
    put(tmp_path / "a\u2028b.png")
    row = {"image": "a\u2028b.png", "category": "gear", "defect_type": "good"}
    (tmp_path / "t.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\r\n", encoding="utf-8", newline="")
    assert len(read(tmp_path / "t.jsonl")) == 1


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    for name, text in (
        ("t.csv", "image,category,defect_type\r\na.png,gear,good\r\n"),
        ("t.jsonl", '{"image": "a.png", "category": "gear", "defect_type": "good"}\r\n'),
    ):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert [record.defect_type for record in read(tmp_path / name)] == ["good"]


def test_a_column_given_twice_is_refused(tmp_path: Path) -> None:
    text = "image,category,defect_type,image\na.png,gear,good,b.png\n"
    assert "row 1: column 'image' is given 2 times" in error_of(tmp_path / "t.csv", text)
    text = '{"image": "a.png", "category": "g", "defect_type": "x", "image": "b.png"}\n'
    assert "row 1: column 'image' is given 2 times" in error_of(tmp_path / "t.jsonl", text)


def test_an_open_quotation_mark_is_refused(tmp_path: Path) -> None:
    text = 'image,category,defect_type\n"a.png,gear,good\nb.png,gear,good\n'
    assert "quotation mark" in error_of(tmp_path / "t.csv", text)


@pytest.mark.parametrize("spelling", ["Good", "GOOD"])
def test_another_spelling_of_good_is_no_defect_type(tmp_path: Path, spelling: str) -> None:
    put(tmp_path / "a.png")
    message = error_of(tmp_path / "t.csv", f"image,category,defect_type\na.png,gear,{spelling}\n")
    assert f"row 2: defect_type is '{spelling}'; a normal image has 'good'" in message


def test_a_table_with_semicolons_is_refused(tmp_path: Path) -> None:
    assert "column 'image;category;defect_type' is unknown" in error_of(
        tmp_path / "t.csv", "image;category;defect_type\na.png;gear;good\n"
    )


def test_a_folder_named_as_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gear").mkdir()
    message = error_of(tmp_path / "t.csv", "image,category,defect_type\ngear,gear,good\n")
    assert "row 2: image" in message
    assert "cannot be read" in message


def test_two_spellings_of_one_path_are_one_image(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    text = "image,category,defect_type\na.png,gear,good\n./a.png,gear,good\n"
    assert "every image may be listed once" in error_of(tmp_path / "t.csv", text)


def test_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    put(tmp_path / "m.png", size_hw=(9, 6))
    text = "image,category,defect_type,mask\na.png,gear,dent,m.png\n"
    assert "is 9x6 (height x width)" in error_of(tmp_path / "t.csv", text)


def test_unknown_category_is_refused_with_the_nearest_spelling(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    text = "image,category,defect_type\na.png,gear,good\n"
    assert "did you mean 'gear'" in error_of(tmp_path / "t.csv", text, "gaer")
