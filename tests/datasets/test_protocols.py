"""Facts about the k-shot protocol: counts, determinism, groups, duplicates, refusals."""

import dataclasses
import hashlib
from collections import Counter
from pathlib import Path

import pytest

from velm_train.core.errors import DataError
from velm_train.core.records import ImageRecord, Split
from velm_train.datasets.manifests import TRAIN_SIDE, SplitManifest, assert_no_leak
from velm_train.datasets.protocols import ProtocolSettings, k_shot_split


def record(
    category: str,
    kind: str,
    number: int,
    *,
    split: Split = "test",
    group: str | None = None,
    content: str | None = None,
) -> ImageRecord:
    image_id = f"d/{category}/{split}/{kind}/{number:03d}.png"
    return ImageRecord(
        image_id=image_id,
        dataset="d",
        category=category,
        split=split,
        defect_type=kind,
        image_path=Path(image_id),
        gt_mask_paths=(),
        sha256=hashlib.sha256((content or image_id).encode()).hexdigest(),
        group_id=group or image_id,
        size_hw=(4, 5),
    )


def dataset() -> list[ImageRecord]:
    records = []
    for category in ("bolt", "nut"):
        records += [record(category, "good", number, split="train") for number in range(10)]
        records += [record(category, "good", number) for number in range(4)]
        records += [record(category, kind, number) for kind in ("bent", "rust") for number in range(8)]
    return records


SETTINGS = ProtocolSettings(
    k_shot=2,
    unseen_categories=(),
    num_reference=3,
    num_validation_per_type=1,
    max_normals=0,
    max_test_per_type=0,
    calibration_fraction=0.0,
    test_normal_fraction=0.3,
    multi_label="leave_out",
    fold=0,
    num_folds=2,
    train_dataset=None,
)


def split(records: list[ImageRecord], *, seed: int = 0, **changes: object) -> SplitManifest:
    return k_shot_split(records, dataclasses.replace(SETTINGS, **changes), seed=seed)


def counts(manifest: SplitManifest, category: str) -> dict[tuple[str, str], int]:
    return dict(Counter((e.defect_type, e.role) for e in manifest.entries if e.category == category))


def ids(manifest: SplitManifest, role: str, kind: str | None = None) -> set[str]:
    return {e.image_id for e in manifest.entries if e.role == role and kind in {None, e.defect_type}}


def test_every_role_has_its_number_of_images() -> None:
    assert counts(split(dataset()), "bolt") == {
        ("good", "reference"): 3,
        ("good", "train"): 7,
        ("good", "test"): 4,
        ("bent", "train"): 2,
        ("bent", "validation"): 1,
        ("bent", "test"): 5,
        ("rust", "train"): 2,
        ("rust", "validation"): 1,
        ("rust", "test"): 5,
    }


def test_defects_of_an_unseen_category_are_all_test() -> None:
    manifest = split(dataset(), unseen_categories=("nut",))
    assert counts(manifest, "nut") == {
        ("good", "reference"): 3,
        ("good", "train"): 7,
        ("good", "test"): 4,
        ("bent", "test"): 8,
        ("rust", "test"): 8,
    }
    assert manifest.left_out == ()


def test_the_split_does_not_depend_on_the_order_of_the_records() -> None:
    assert split(dataset()).sha256 == split(dataset()[::-1]).sha256


def test_another_seed_gives_another_split() -> None:
    assert ids(split(dataset()), "train", "rust") != ids(split(dataset(), seed=1), "train", "rust")


def test_fewer_shots_are_among_more_and_validation_stays() -> None:
    one, four = split(dataset(), k_shot=1), split(dataset(), k_shot=4)
    assert ids(one, "train", "rust") < ids(four, "train", "rust")
    assert ids(one, "validation") == ids(four, "validation")


def test_no_shots_leave_all_defects_to_validation_and_test() -> None:
    manifest = split(dataset(), k_shot=0)
    assert {e.defect_type for e in manifest.with_role("train")} == {"good"}


def test_part_of_the_normals_calibrates_where_asked() -> None:
    found = counts(split(dataset(), calibration_fraction=0.3), "bolt")
    assert (found["good", "reference"], found["good", "calibration"], found["good", "train"]) == (3, 2, 5)


def test_limits_leave_images_out_with_their_reason() -> None:
    manifest = split(dataset(), max_normals=5, max_test_per_type=2)
    found = counts(manifest, "nut")
    assert (found["good", "reference"], found["good", "train"], found["good", "test"]) == (3, 2, 2)
    assert (found["rust", "test"], found["rust", "validation"]) == (2, 1)
    reasons = Counter(image.reason for image in manifest.left_out if "/nut/" in image.image_id)
    assert reasons == {"beyond max_normals=5": 5, "beyond max_test_per_type=2": 2 + 3 + 3}


def test_without_test_normals_a_share_of_the_normals_is_held_out() -> None:
    records = [r for r in dataset() if r.gt_label or r.split == "train"]
    found = counts(split(records), "bolt")
    assert (found["good", "reference"], found["good", "train"], found["good", "test"]) == (3, 4, 3)


def test_a_group_of_several_views_is_on_one_side() -> None:
    records = [r for r in dataset() if not r.gt_label]
    for category in ("bolt", "nut"):
        records += [
            record(category, kind, number, group=f"{category} part {number // 2}")
            for kind in ("bent", "rust")
            for number in range(8)
        ]
    manifest = split(records, k_shot=1, num_validation_per_type=1)
    sides: dict[str, set[bool]] = {}
    for entry in manifest.entries:
        sides.setdefault(entry.group_id, set()).add(entry.role in TRAIN_SIDE)
    assert all(len(side) == 1 for side in sides.values())
    assert len(manifest.left_out) == 4
    assert {image.reason for image in manifest.left_out} == {"its group is on the train side"}


def test_equal_files_are_on_one_side() -> None:
    records = [r for r in dataset() if r.defect_type != "rust"]
    for category in ("bolt", "nut"):
        records += [record(category, "rust", n, content=f"{category} rust {n // 2}") for n in range(8)]
    manifest = split(records, k_shot=1)
    duplicates = assert_no_leak(manifest)
    assert len(duplicates) == 6
    assert all(len(names) == 2 for names in duplicates)


def test_groups_of_normals_are_held_out_as_a_whole() -> None:
    normals = [record("bolt", "good", n, split="train", group=f"part {n // 3}") for n in range(12)]
    manifest = split([*normals, *(record("bolt", "rust", n) for n in range(6))])
    test_groups = {e.group_id for e in manifest.with_role("test") if e.defect_type == "good"}
    train_groups = {e.group_id for e in manifest.entries if e.role in TRAIN_SIDE and e.defect_type == "good"}
    assert test_groups.isdisjoint(train_groups)
    assert len(test_groups) == 2


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"k_shot": 9}, "bolt/bent: 8 images, of which 8 may be trained on; k_shot=9"),
        ({"k_shot": 8}, "bolt/bent: 8 images leave 0 after training"),
        ({"num_validation_per_type": 6}, "leave 6 after training; num_validation_per_type=6"),
        ({"unseen_categories": ("nutt",)}, "did you mean 'nut'"),
        ({"num_reference": 10}, "10 normal training images, num_reference=10"),
        ({"max_normals": 3}, "max_normals is 3; it must exceed num_reference=3"),
        ({"calibration_fraction": 1.0}, "calibration_fraction is 1.0"),
        ({"calibration_fraction": 0.95}, "leaves none for the detector"),
        ({"test_normal_fraction": 0.0}, "test_normal_fraction is 0.0"),
        ({"k_shot": -1}, "k_shot is -1"),
    ],
)
def test_an_impossible_request_is_refused(changes: dict, expected: str) -> None:
    with pytest.raises(DataError) as caught:
        split(dataset(), **changes)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_in_both_normal_folders_is_refused_by_both_names() -> None:
    records = [r for r in dataset() if r.image_id not in {"d/nut/train/good/000.png", "d/nut/test/good/000.png"}]
    records += [record("nut", "good", 0, split=side, content="same") for side in ("train", "test")]
    with pytest.raises(DataError, match=r"d/nut/test/good/000\.png .*d/nut/train/good/000\.png"):
        split(records)


def test_one_group_for_all_normals_cannot_be_split() -> None:
    normals = [record("bolt", "good", n, split="train", group="all") for n in range(12)]
    with pytest.raises(DataError, match="leave 0 for training"):
        split([*normals, *(record("bolt", "rust", n) for n in range(6))])


def test_category_without_normals_is_refused() -> None:
    with pytest.raises(DataError, match="'bolt' has no normal images"):
        split([record("bolt", "rust", n) for n in range(6)])


def test_a_record_given_twice_is_refused() -> None:
    with pytest.raises(DataError, match="same image_id"):
        split([*dataset(), dataset()[0]])
