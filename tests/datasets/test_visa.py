"""Facts about the reader of VisA as downloaded."""

import re
from pathlib import Path

import pytest

from velm_train.core.errors import DataError
from velm_train.core.images import read_gt_masks
from velm_train.datasets.visa import find_visa
from velm_train.datasets.visa_labels import canonical_label
from velm_train.datasets.visa_layout import VISA_TYPES, read_visa_ac_classes

NORMAL = "Data/Images/Normal"
ANOMALY = "Data/Images/Anomaly"
MASKS = "Data/Masks/Anomaly"

LABELS = """image,label,mask
candle/Data/Images/Normal/0000.JPG,normal,
candle/Data/Images/Normal/0011.JPG,normal,
candle/Data/Images/Anomaly/000.JPG,Different Color  spot,candle/Data/Masks/Anomaly/000.png
candle/Data/Images/Anomaly/001.JPG,"foreign particals on candle,chunk of wax missing",candle/Data/Masks/Anomaly/001.png
"""

SPLIT = """object,split,label,image,mask
candle,test,normal,candle/Data/Images/Normal/0000.JPG,
candle,train,normal,candle/Data/Images/Normal/0011.JPG,
candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png
pcb1,train,normal,pcb1/Data/Images/Normal/0000.JPG,
"""


@pytest.fixture
def root(tmp_path: Path, put, mask_of) -> Path:
    root = tmp_path / "VisA"
    for name in ("0000", "0011"):
        put(root / f"candle/{NORMAL}/{name}.JPG", 3)
    put(root / f"candle/{ANOMALY}/000.JPG", 4)
    put(root / f"candle/{MASKS}/000.png", mask_of(4))
    put(root / f"candle/{ANOMALY}/001.JPG", 5)
    put(root / f"candle/{MASKS}/001.png", mask_of(1, 1, 6))
    (root / "candle/image_anno.csv").write_text(LABELS)
    (root / "split_csv").mkdir()
    (root / "split_csv/1cls.csv").write_text(SPLIT)
    return root


def edit(path: Path, old: str, new: str) -> None:
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))


def rows_of(root: Path) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(i.relative_path, i.split, i.defect_types) for i in find_visa(root, categories=["candle"]).images]


ROWS = [
    (f"{NORMAL}/0000.JPG", "test", ()),
    (f"{NORMAL}/0011.JPG", "train", ()),
    (f"{ANOMALY}/000.JPG", "test", ("different-colour-spot",)),
    (f"{ANOMALY}/001.JPG", "test", ("chunk-of-wax-missing", "foreign-particles-on-candle")),
]


def test_tables_give_types_and_split(root: Path) -> None:
    found = find_visa(root, categories=["candle"])
    assert rows_of(root) == ROWS
    assert found.notes == ("folders that are not categories are passed over: split_csv",)


def test_several_types_and_class_numbers_in_masks_become_records(root: Path, indexed, mask_of) -> None:
    records = indexed(find_visa(root, categories=[])).records
    (record,) = [record for record in records if record.image_path.name == "001.JPG"]
    assert record.image_id == "set/candle/Data/Images/Anomaly/001.JPG"
    assert record.defect_type == "chunk-of-wax-missing+foreign-particles-on-candle"
    assert record.gt_mask_paths == (root / f"candle/{MASKS}/001.png",)
    gt_mask = read_gt_masks(record.gt_mask_paths, size_hw=record.size_hw)
    assert gt_mask.tolist() == (mask_of(1, 1, 6) > 0).tolist()


def test_without_labels_the_class_numbers_in_the_masks_give_the_same_types(root: Path) -> None:
    (root / "candle/image_anno.csv").unlink()
    assert rows_of(root) == ROWS
    notes = find_visa(root, categories=["candle"]).notes
    assert notes[1] == "types are read from mask values where image_anno.csv is absent: candle"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((255,), r"000\.png holds the class number 255; candle has 1 to 8; .*image_anno\.csv is needed"),
        ((), r"000\.JPG has no type: image_anno\.csv is absent and it has no mask, or an empty one"),
    ],
)
def test_without_labels_masks_must_hold_class_numbers(root: Path, put, mask_of, values: tuple, expected: str) -> None:
    (root / "candle/image_anno.csv").unlink()
    put(root / f"candle/{MASKS}/000.png", mask_of(*values))
    with pytest.raises(DataError, match=expected):
        find_visa(root, categories=[])


def test_without_the_split_the_test_normals_are_known_by_number(root: Path) -> None:
    (root / "split_csv/1cls.csv").unlink()
    assert 11 in read_visa_ac_classes()["candle"].test_normals
    assert [(name, split) for name, split, types in rows_of(root) if not types] == [
        (f"{NORMAL}/0000.JPG", "train"),
        (f"{NORMAL}/0011.JPG", "test"),
    ]
    assert any("test normals are taken from the package's list" in n for n in find_visa(root, categories=[]).notes)


def test_normals_that_the_split_does_not_list_are_counted(root: Path, put) -> None:
    put(root / f"candle/{NORMAL}/0012.JPG")
    found = find_visa(root, categories=["candle"])
    assert (f"{NORMAL}/0012.JPG", "train", ()) in rows_of(root)
    assert found.notes[-1] == (
        "normal images that split_csv/1cls.csv does not list count as train: 1, "
        "first candle/Data/Images/Normal/0012.JPG"
    )


def test_a_category_name_may_hold_an_underscore(root: Path, put) -> None:
    put(root / f"pipe_fryum/{NORMAL}/000.JPG")
    put(root / f"pipe_fryum/{ANOMALY}/000.JPG")
    (root / "pipe_fryum/image_anno.csv").write_text(
        "image,label,mask\npipe_fryum/Data/Images/Anomaly/000.JPG,corner and edge breakage,\n"
    )
    found = find_visa(root, categories=["pipe_fryum"])
    assert [(image.category, image.defect_types) for image in found.images] == [
        ("pipe_fryum", ()),
        ("pipe_fryum", ("corner-and-edge-breakage",)),
    ]
    assert found.notes[-1].startswith("defect images without a mask: 1, first ")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "Different Color  spot",
            "Diferent Colour spot",
            r"row 4: .*'diferent-colour-spot' \(did you mean 'different-",
        ),
        ("Different Color  spot", "", r"row 4: VisA label '' is not one label"),
        ("Different Color  spot", "normal", r"row 4: image .*000\.JPG' has the label 'normal', which contradicts"),
        ("0011.JPG,normal", "0011.JPG,other", r"row 3: image .*0011\.JPG' has the label 'other', which contradicts"),
        ("Normal/0011", "Normal/0000", r"row 3: image 'candle/Data/Images/Normal/0000.JPG' is listed twice"),
        ("candle/Data/Images/Normal/0011", "0011", r"row 3: image '0011\.JPG' does not lie in candle/Data/Images/No"),
        ('"foreign particals on candle,chunk of wax missing"', "a,b", r"row 5: more fields than columns; quote"),
        ('chunk of wax missing"', "chunk of wax missing", r"image_anno\.csv is not CSV"),
        (
            "image,label",
            "image,type",
            r"image_anno\.csv: columns are image, type, mask, expected image, label and mask",
        ),
    ],
)
def test_a_wrong_row_of_labels_is_refused_by_its_place(root: Path, old: str, new: str, expected: str) -> None:
    edit(root / "candle/image_anno.csv", old, new)
    with pytest.raises(DataError) as caught:
        find_visa(root, categories=[])
    assert re.search(expected, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


def test_labels_that_are_not_utf8_are_refused(root: Path) -> None:
    (root / "candle/image_anno.csv").write_bytes(b"image,label,mask\n\xff,a,\n")
    with pytest.raises(DataError, match=r"image_anno\.csv is not UTF-8 text"):
        find_visa(root, categories=[])


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("candle,test,normal", "candle,val,normal", r"1cls\.csv row 2: split is 'val'; allowed: train, test"),
        ("Normal/0011", "Normal/0000", r"1cls\.csv row 3: image .*0000\.JPG' is listed twice"),
    ],
)
def test_a_wrong_row_of_the_split_is_refused_by_its_place(root: Path, old: str, new: str, expected: str) -> None:
    edit(root / "split_csv/1cls.csv", old, new)
    with pytest.raises(DataError, match=expected):
        find_visa(root, categories=[])


def test_an_image_without_a_label_is_refused(root: Path, put) -> None:
    put(root / f"candle/{ANOMALY}/002.JPG")
    with pytest.raises(DataError, match=r"002\.JPG has no row in .*image_anno\.csv"):
        find_visa(root, categories=[])


def test_a_mask_without_an_image_is_refused(root: Path, put, mask_of) -> None:
    put(root / f"candle/{MASKS}/002.png", mask_of(1))
    with pytest.raises(DataError, match=r"002\.png \(one of 1\) has no image"):
        find_visa(root, categories=[])


@pytest.mark.parametrize(
    ("gone", "row"),
    [
        (f"{ANOMALY}/001.JPG", r"image_anno\.csv row 5: image .*001\.JPG does not exist"),
        (f"{NORMAL}/0011.JPG", r"1cls\.csv row 3: image .*0011\.JPG does not exist"),
        (f"{MASKS}/001.png", r"image_anno\.csv row 5: image .*001\.png does not exist"),
    ],
)
def test_a_listed_file_that_is_absent_is_refused_or_left_out(root: Path, indexed, gone: str, row: str) -> None:
    (root / "candle" / gone).unlink()
    found = find_visa(root, categories=[])
    with pytest.raises(DataError, match=row):
        indexed(found)
    read = indexed(found, "exclude")
    assert re.search(row, read.excluded[0].reason)
    assert (len(read.excluded), len(read.records)) == (1, 3)


def test_a_category_without_normals_is_refused(root: Path) -> None:
    for name in ("0000", "0011"):
        (root / f"candle/{NORMAL}/{name}.JPG").unlink()
    with pytest.raises(DataError, match="category 'candle': no normal images in"):
        find_visa(root, categories=[])


def test_the_conversion_that_throws_types_away_is_refused(tmp_path: Path, put) -> None:
    for name in ("train/good", "test/good", "test/bad"):
        put(tmp_path / f"candle/{name}/000.JPG")
    with pytest.raises(DataError, match=r"after its 1cls conversion .*throws the defect types away; give VisA as down"):
        find_visa(tmp_path, categories=[])


def test_visa_ac_is_refused_with_a_hint(tmp_path: Path, put) -> None:
    put(tmp_path / "candle/test/chunk-of-wax-missing/000.JPG")
    with pytest.raises(DataError, match=r"category 'candle' has no folder .*use dataset=visa_ac"):
        find_visa(tmp_path, categories=[])


def test_every_type_is_spelt_canonically_and_once() -> None:
    assert (len(VISA_TYPES), sum(map(len, VISA_TYPES.values()))) == (12, 78)
    for types in VISA_TYPES.values():
        assert [canonical_label(name) for name in types] == list(types)
        assert len(set(types)) == len(types)
