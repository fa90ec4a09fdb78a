"""Facts about the reader of VisA-AC and the list of its images."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from velm_train.core.errors import DataError
from velm_train.datasets import visa_layout
from velm_train.datasets.visa_ac import find_visa_ac
from velm_train.datasets.visa_layout import VISA_TYPES, read_visa_ac_classes

NUM_NORMALS = {
    "candle": 1000,
    "capsules": 602,
    "cashew": 500,
    "chewinggum": 503,
    "fryum": 500,
    "macaroni1": 1000,
    "macaroni2": 1000,
    "pcb1": 1004,
    "pcb2": 1001,
    "pcb3": 1006,
    "pcb4": 1005,
    "pipe_fryum": 500,
}
"""Of VisA: 9,621 in all; each category has 100 anomalous images."""


@pytest.fixture(scope="module")
def visa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All test normals, ten more normals at most, and all anomalous images of every category, without content."""
    root = tmp_path_factory.mktemp("VisA")
    for category, num_normals in NUM_NORMALS.items():
        folders = [root / category / "Data" / name for name in ("Images/Normal", "Images/Anomaly", "Masks/Anomaly")]
        for folder in folders:
            folder.mkdir(parents=True)
        digits = 4 if num_normals > 600 else 3
        numbers = {*range(10), *read_visa_ac_classes()[category].test_normals}
        names = [f"{folders[0]}/{number:0{digits}d}.JPG" for number in numbers]
        names += [f"{folders[1]}/{number:03d}.JPG" for number in range(100)]
        names += [f"{folders[2]}/{number:03d}.png" for number in range(100)]
        for name in names:
            os.close(os.open(name, os.O_CREAT))
    return root


@pytest.fixture
def plain(tmp_path: Path, put, mask_of) -> Path:
    """Capsules alone, with the images that the list names."""
    listed = read_visa_ac_classes()["capsules"]
    for number in (*listed.test_normals, 0, 1):
        put(tmp_path / f"capsules/Data/Images/Normal/{number:04d}.JPG")
    for number in range(100):
        put(tmp_path / f"capsules/Data/Images/Anomaly/{number:03d}.JPG")
        put(tmp_path / f"capsules/Data/Masks/Anomaly/{number:03d}.png", mask_of(1, 2))
    return tmp_path


def test_visa_gives_929_anomalous_images_in_50_classes_and_962_test_normals(visa: Path) -> None:
    found = find_visa_ac(visa, categories=[])
    anomalous = Counter((image.category, image.defect_types) for image in found.images if image.defect_types)
    normals = Counter(image.split for image in found.images if not image.defect_types)
    assert (sum(anomalous.values()), len(anomalous)) == (929, 50)
    assert normals["test"] == 962
    assert normals["train"] == sum(
        number not in listed.test_normals for listed in read_visa_ac_classes().values() for number in range(10)
    )
    assert min(anomalous.values()) == 10
    assert all(image.split == "test" for image in found.images if image.defect_types)
    assert all(image.path.is_file() for image in found.images)
    assert found.notes == ("made from VisA by visa_ac_classes.json; 271 anomalous images of VisA are not in VisA-AC",)


@pytest.mark.parametrize(
    ("category", "num_anomalous", "num_test_normals", "num_classes"),
    [
        ("candle", 69, 100, 5),
        ("capsules", 100, 60, 4),
        ("cashew", 69, 50, 5),
        ("chewinggum", 63, 50, 4),
        ("fryum", 64, 50, 3),
        ("macaroni1", 90, 100, 5),
        ("macaroni2", 70, 100, 4),
        ("pcb1", 91, 100, 4),
        ("pcb2", 91, 100, 4),
        ("pcb3", 93, 101, 4),
        ("pcb4", 41, 101, 2),
        ("pipe_fryum", 88, 50, 6),
    ],
)
def test_list_has_the_published_counts(
    category: str, num_anomalous: int, num_test_normals: int, num_classes: int
) -> None:
    listed = read_visa_ac_classes()[category]
    numbers = [number for numbers in listed.anomalies.values() for number in numbers]
    assert (len(numbers), len(listed.test_normals), len(listed.anomalies)) == (
        num_anomalous,
        num_test_normals,
        num_classes,
    )
    assert len(set(numbers)) == len(numbers)
    assert set(numbers) <= set(range(100))
    assert set(listed.test_normals) <= set(range(NUM_NORMALS[category]))


@pytest.mark.parametrize(
    ("category", "type_name", "number"),
    [
        ("cashew", "small-holes", 20),
        ("macaroni1", "middle-breakage_small-scratches", 10),
        ("macaroni1", "similar-colour-spot", 21),
        ("capsules", "bubble-discolor-scratch-leak", 40),
    ],
)
def test_names_that_the_published_descriptions_misspell_are_those_of_the_folders(
    category: str, type_name: str, number: int
) -> None:
    assert len(read_visa_ac_classes()[category].anomalies[type_name]) == number


def test_list_and_visa_have_the_same_categories() -> None:
    assert set(read_visa_ac_classes()) == set(VISA_TYPES)


def test_both_kinds_of_copy_give_the_same_records(plain: Path, tmp_path: Path, indexed) -> None:
    from_visa = indexed(find_visa_ac(plain, categories=["capsules"])).records
    copy = tmp_path / "copy"
    for record in from_visa:
        below = record.image_id.removeprefix("set/")
        for source, target in ((record.image_path, copy / below), *mask_moves(record.gt_mask_paths, copy / below)):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    found = find_visa_ac(copy, categories=["capsules"])
    assert found.notes == ()
    from_copy = indexed(found).records
    assert len(from_copy) == 100 + 60 + 2
    assert facts(from_copy) == facts(from_visa)


def mask_moves(masks: tuple[Path, ...], image: Path) -> list[tuple[Path, Path]]:
    folder = image.parents[2] / "groundtruth" / image.parent.name
    return [(mask, folder / f"{image.stem}.png") for mask in masks]


def facts(records) -> list[tuple]:
    return [(r.image_id, r.split, r.defect_type, r.sha256, len(r.gt_mask_paths)) for r in records]


def test_a_copy_without_train_images_is_read_with_a_note(tmp_path: Path, put, mask_of) -> None:
    put(tmp_path / "pipe_fryum/test/good/006.JPG")
    put(tmp_path / "pipe_fryum/test/burnt/000.JPG")
    put(tmp_path / "pipe_fryum/groundtruth/burnt/000.png", mask_of(1))
    found = find_visa_ac(tmp_path, categories=["pipe_fryum"])
    assert [(image.defect_types, image.gt_mask_paths) for image in found.images] == [
        (("burnt",), (tmp_path / "pipe_fryum/groundtruth/burnt/000.png",)),
        ((), ()),
    ]
    assert found.notes == (
        "no normal images in train/good, add VisA's to learn from: pipe_fryum",
        "1 anomalous images are there, VisA-AC has 88 in these categories",
    )


def test_a_misspelt_type_is_refused_with_the_nearest_spelling(tmp_path: Path, put) -> None:
    put(tmp_path / "cashew/test/small-hole/000.JPG")
    with pytest.raises(DataError, match=r"no type 'small-hole' \(did you mean 'small-holes'\?\)"):
        find_visa_ac(tmp_path, categories=[])


def test_a_listed_image_that_visa_lacks_is_refused_or_left_out(plain: Path, indexed) -> None:
    gone = plain / "capsules/Data/Images/Anomaly/007.JPG"
    gone.unlink()
    found = find_visa_ac(plain, categories=["capsules"])
    with pytest.raises(DataError, match=r"visa_ac_classes\.json: image .*007\.JPG does not exist"):
        indexed(found)
    read = indexed(found, "exclude")
    assert [excluded.path for excluded in read.excluded] == [str(gone)]
    assert len(read.records) == 161


def test_a_listed_normal_that_visa_lacks_is_refused(plain: Path, indexed) -> None:
    (plain / "capsules/Data/Images/Normal/0011.JPG").unlink()
    with pytest.raises(DataError, match=r"visa_ac_classes\.json: image .*Normal/0011\.JPG does not exist"):
        indexed(find_visa_ac(plain, categories=["capsules"]))


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("Images/Anomaly/one.JPG", r"one\.JPG is not named by a number"),
        ("Images/Normal/11.JPG", r"images .* have one number; keep one of them"),
        ("Masks/Anomaly/100.png", r"100\.png \(one of 1\) has no image"),
    ],
)
def test_a_file_that_visa_does_not_have_is_refused(plain: Path, put, extra: str, expected: str) -> None:
    put(plain / "capsules/Data" / extra)
    with pytest.raises(DataError, match=expected):
        find_visa_ac(plain, categories=[])


def test_a_mix_of_both_kinds_is_refused(plain: Path, put) -> None:
    put(plain / "cashew/test/burnt/000.JPG")
    with pytest.raises(DataError, match=r"mixes VisA \(capsules\) and VisA-AC \(cashew\); give one of them"):
        find_visa_ac(plain, categories=[])


def test_the_conversion_that_throws_types_away_is_refused(tmp_path: Path, put) -> None:
    put(tmp_path / "candle/test/bad/000.JPG")
    with pytest.raises(DataError, match="after its 1cls conversion"):
        find_visa_ac(tmp_path, categories=[])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        (json.dumps({"schema_version": 2, "categories": {}}), "schema version 2, expected 1"),
        (json.dumps({"schema_version": 1, "categories": {"candle": {"burnt": [1]}}}), r"is damaged \('good'\)"),
    ],
)
def test_a_damaged_list_is_refused(tmp_path: Path, monkeypatch, content: str, expected: str) -> None:
    (tmp_path / "visa_ac_classes.json").write_text(content)
    monkeypatch.setattr(visa_layout, "_LIST_FOLDERS", (tmp_path,))
    with pytest.raises(DataError, match=expected):
        read_visa_ac_classes()


def test_an_absent_list_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(visa_layout, "_LIST_FOLDERS", (tmp_path,))
    with pytest.raises(DataError, match="install velm_train again"):
        read_visa_ac_classes()
