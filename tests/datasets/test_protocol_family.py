"""Facts about the protocols P0 and P2 to P5, about images of several types, and about what they refuse."""

import dataclasses
import hashlib
from collections import Counter
from pathlib import Path

import pytest

from velm_train.core.errors import DataError
from velm_train.core.hashing import sha256_json
from velm_train.core.records import ImageRecord, Split
from velm_train.datasets.manifests import SplitManifest
from velm_train.datasets.protocols import PROTOCOLS, ProtocolSettings

SETTINGS = ProtocolSettings(
    k_shot=2,
    unseen_categories=(),
    num_reference=1,
    num_validation_per_type=0,
    max_normals=0,
    max_test_per_type=0,
    calibration_fraction=0.0,
    test_normal_fraction=0.3,
    multi_label="leave_out",
    fold=0,
    num_folds=2,
    train_dataset=None,
)


def record(
    category: str,
    kind: str,
    number: int,
    *,
    split: Split = "test",
    group: str = "",
    content: str = "",
    dataset: str = "d",
) -> ImageRecord:
    image_id = f"{dataset}/{category}/{split}/{kind}/{number:03d}.png"
    return ImageRecord(
        image_id=image_id,
        dataset=dataset,
        category=category,
        split=split,
        defect_type=kind,
        image_path=Path(image_id),
        gt_mask_paths=(),
        sha256=hashlib.sha256((content or image_id).encode()).hexdigest(),
        group_id=group or image_id,
        size_hw=(4, 5),
    )


def category(name: str, *, types: dict[str, int], dataset: str = "d") -> list[ImageRecord]:
    """A category with 5 training and 3 test normals."""
    records = [record(name, "good", number, split="train", dataset=dataset) for number in range(5)]
    records += [record(name, "good", number, dataset=dataset) for number in range(3)]
    return records + [record(name, kind, n, dataset=dataset) for kind, size in types.items() for n in range(size)]


def parts() -> list[ImageRecord]:
    names = ("bolt", "cap", "nut", "pin", "ring")
    return [one for name in names for one in category(name, types={"bent": 7, "chip": 6, "rust": 5})]


def split(protocol: str, records: list[ImageRecord], *, seed: int = 0, **changes: object) -> SplitManifest:
    return PROTOCOLS[protocol](records, dataclasses.replace(SETTINGS, **changes), seed=seed)


def counts(manifest: SplitManifest, name: str) -> dict[str, int]:
    return dict(Counter(f"{e.defect_type} {e.role}" for e in manifest.entries if e.category == name))


NORMALS = {"good reference": 1, "good train": 4, "good test": 3}


def test_the_k_shot_split_of_a_fixed_set_never_changes() -> None:
    manifest = split("k_shot", parts(), k_shot=2, num_validation_per_type=1, max_test_per_type=2, seed=3)
    body = [dataclasses.asdict(one) for one in (*manifest.entries, *manifest.left_out)]
    assert sha256_json(body) == "fb029effb11e33f4cfd808048068bab87b1c2d4528edf9ca82330a27095a7099"


def test_zero_shot_tests_every_defect_and_sees_no_category() -> None:
    manifest = split("zero_shot", parts())
    assert counts(manifest, "bolt") == NORMALS | {"bent test": 7, "chip test": 6, "rust test": 5}
    assert manifest.unseen_categories == ("bolt", "cap", "nut", "pin", "ring")
    assert manifest.left_out == ()


def test_half_trains_on_half_of_each_type_rounded_down() -> None:
    manifest = split("half", parts(), unseen_categories=("ring",))
    halves = {"bent train": 3, "bent test": 4, "chip train": 3, "chip test": 3, "rust train": 2, "rust test": 3}
    assert counts(manifest, "bolt") == NORMALS | halves
    assert counts(manifest, "ring") == NORMALS | {"bent test": 7, "chip test": 6, "rust test": 5}
    assert manifest.unseen_categories == ("ring",)


def test_half_keeps_parts_whole_and_trains_on_all_their_views() -> None:
    records = [one for one in category("bolt", types={}) if not one.gt_label]
    records += [record("bolt", "bent", n, group=f"part {n // 4}") for n in range(12)]
    manifest = split("half", records)
    assert counts(manifest, "bolt") == NORMALS | {"bent train": 4, "bent test": 8}
    assert manifest.left_out == ()


def test_k_shot_defects_are_among_those_of_half() -> None:
    shots, half = split("k_shot", parts(), k_shot=2), split("half", parts())
    assert {e.image_id for e in shots.with_role("train")} <= {e.image_id for e in half.with_role("train")}


def test_left_out_categories_alone_are_tested_and_each_once_over_the_folds() -> None:
    folds = [split("leave_category_out", parts(), k_shot=0, fold=fold, num_folds=3) for fold in range(3)]
    tested = [name for manifest in folds for name in manifest.unseen_categories]
    assert sorted(tested) == ["bolt", "cap", "nut", "pin", "ring"]
    for manifest in folds:
        assert {entry.category for entry in manifest.with_role("test")} == set(manifest.unseen_categories)


def test_of_seen_categories_every_defect_is_trained_on_and_test_normals_are_left_out() -> None:
    manifest = split("leave_category_out", parts(), k_shot=0)
    (seen, *_) = sorted({"bolt", "cap", "nut", "pin", "ring"} - set(manifest.unseen_categories))
    trained = {"bent train": 7, "chip train": 6, "rust train": 5}
    assert counts(manifest, seen) == {"good reference": 1, "good train": 4} | trained
    reasons = {one.reason for one in manifest.left_out if f"/{seen}/" in one.image_id}
    assert reasons == {"its category is trained on, and this protocol tests only others"}


def test_left_out_categories_do_not_depend_on_the_seed() -> None:
    one, other = (split("leave_category_out", parts(), seed=seed) for seed in (0, 7))
    assert one.unseen_categories == other.unseen_categories
    assert one.sha256 != other.sha256


def test_of_seen_categories_k_shots_train_the_last_validate_and_the_others_are_left_out() -> None:
    manifest = split("leave_category_out", parts(), k_shot=2, num_validation_per_type=1)
    (seen, *_) = sorted({"bolt", "cap", "nut", "pin", "ring"} - set(manifest.unseen_categories))
    found = counts(manifest, seen)
    assert (found["bent train"], found["bent validation"]) == (2, 1)
    assert "bent test" not in found
    left_out = [one for one in manifest.left_out if f"/{seen}/test/" in one.image_id and "good" not in one.image_id]
    assert len(left_out) == (7 - 3) + (6 - 3) + (5 - 3)


def test_all_defects_but_the_validation_images_are_trained_on() -> None:
    manifest = split("leave_category_out", parts(), k_shot=0, num_validation_per_type=2)
    (seen, *_) = sorted({"bolt", "cap", "nut", "pin", "ring"} - set(manifest.unseen_categories))
    assert {name: n for name, n in counts(manifest, seen).items() if "bent" in name} == {
        "bent train": 5,
        "bent validation": 2,
    }


def two_sets() -> list[ImageRecord]:
    return [
        *category("bolt", types={"bent": 4, "rust": 3}, dataset="a"),
        *category("cap", types={"chip": 5}, dataset="b"),
    ]


def test_cross_dataset_trains_on_one_set_and_tests_the_other() -> None:
    manifest = split("cross_dataset", two_sets(), k_shot=0, train_dataset="a")
    assert counts(manifest, "bolt") == {"good reference": 1, "good train": 4, "bent train": 4, "rust train": 3}
    assert counts(manifest, "cap") == NORMALS | {"chip test": 5}
    assert manifest.unseen_categories == ("cap",)
    assert manifest.protocol == "cross_dataset_from_a"


def test_equal_group_names_of_two_data_sets_are_two_groups() -> None:
    records = two_sets()
    records += [
        record("bolt", "bent", 9, group="part 1", dataset="a"),
        record("cap", "chip", 9, group="part 1", dataset="b"),
    ]
    manifest = split("cross_dataset", records, k_shot=0, train_dataset="a")
    assert {(e.group_id, e.role) for e in manifest.entries if "part" in e.group_id} == {
        ("a/part 1", "train"),
        ("b/part 1", "test"),
    }


def test_unknown_types_are_never_trained_on_and_all_tested() -> None:
    for fold in range(3):
        manifest = split("leave_type_out", parts(), fold=fold, num_folds=3)
        assert sorted(manifest.unknown_types) == ["bolt", "cap", "nut", "pin", "ring"]
        for name, (unknown,) in manifest.unknown_types.items():
            found = counts(manifest, name)
            assert f"{unknown} train" not in found
            assert found[f"{unknown} test"] == {"bent": 7, "chip": 6, "rust": 5}[unknown]
            assert sum(found[f"{kind} train"] for kind in {"bent", "chip", "rust"} - {unknown}) == 4


def test_every_type_is_unknown_once_over_the_folds() -> None:
    folds = [split("leave_type_out", parts(), fold=fold, num_folds=3).unknown_types for fold in range(3)]
    assert sorted(kind for unknown in folds for kind in unknown["nut"]) == ["bent", "chip", "rust"]


def several(records: list[ImageRecord]) -> list[ImageRecord]:
    return [*records, *(record("bolt", "bent+rust", number) for number in range(4))]


def test_images_of_several_types_are_left_out_by_name() -> None:
    manifest = split("k_shot", several(parts()))
    reasons = Counter(one.reason for one in manifest.left_out)
    assert reasons == {"shows several types: bent, rust": 4}


def test_images_of_several_types_may_be_a_type_of_their_own() -> None:
    found = counts(split("k_shot", several(parts()), multi_label="joint"), "bolt")
    assert (found["bent+rust train"], found["bent+rust test"], found["bent train"]) == (2, 2, 2)


def test_joint_type_with_an_unknown_part_is_unknown() -> None:
    for fold in range(4):
        manifest = split("leave_type_out", several(parts()), multi_label="joint", fold=fold, num_folds=4)
        unknown = manifest.unknown_types["bolt"]
        assert ("bent+rust" in unknown) == (bool({"bent", "rust"} & set(unknown)) or unknown == ("bent+rust",))


@pytest.mark.parametrize(
    ("protocol", "changes", "expected"),
    [
        ("k_shot", {"k_shot": 6}, "bolt/rust: 5 images, of which 5 may be trained on; k_shot=6"),
        ("half", {"unseen_categories": ("nutt",)}, "unseen category 'nutt' has no images (did you mean 'nut'?)"),
        ("leave_category_out", {"num_folds": 6}, "num_folds is 6, but 5 categories can be left out"),
        ("leave_category_out", {"k_shot": 6}, "/rust: 5 images, of which 5 may be trained on"),
        ("cross_dataset", {"train_dataset": "a"}, "needs images of two data sets; found 1: ['d']"),
        ("zero_shot", {"num_reference": 5}, "category 'bolt': 5 normal training images, num_reference=5"),
    ],
)
def test_an_impossible_request_is_refused(protocol: str, changes: dict, expected: str) -> None:
    with pytest.raises(DataError) as caught:
        split(protocol, parts(), **changes)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({"fold": 2}, "it must be 0 to 1"), ({"num_folds": 1}, "at least 2"), ({"k_shot": -1}, "k_shot is -1")],
)
def test_impossible_settings_are_refused(changes: dict, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        dataclasses.replace(SETTINGS, **changes)


def test_two_data_sets_with_a_category_in_common_are_refused_by_its_name() -> None:
    records = [*category("bolt", types={"bent": 4}, dataset="a"), *category("bolt", types={"chip": 5}, dataset="b")]
    with pytest.raises(DataError, match="'a' and 'b' both have categories named bolt"):
        split("cross_dataset", records, train_dataset="a")


def test_two_data_sets_with_a_picture_in_common_are_refused_by_both_names() -> None:
    twin = record("cap", "chip", 9, dataset="b", content="a/bolt/test/bent/002.png")
    with pytest.raises(DataError, match=r"a/bolt/test/bent/002\.png and b/cap/test/chip/009\.png are the same picture"):
        split("cross_dataset", [*two_sets(), twin], train_dataset="a")


def test_training_set_that_was_not_read_is_refused_with_the_nearest_name() -> None:
    records = [dataclasses.replace(one, dataset="mvtec" if one.dataset == "a" else "visa") for one in two_sets()]
    with pytest.raises(DataError, match=r"train_dataset is 'mvtek' \(did you mean 'mvtec'\?\)"):
        split("cross_dataset", records, train_dataset="mvtek")


@pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if name != "cross_dataset"])
def test_category_without_normals_is_refused_by_name(protocol: str) -> None:
    with pytest.raises(DataError, match="category 'lid' has no normal images"):
        split(protocol, [*parts(), *(record("lid", kind, n) for kind in ("bent", "chip") for n in range(6))])


def test_types_that_cannot_be_unknown_are_refused() -> None:
    with pytest.raises(DataError, match="needs a seen category with two defect types"):
        split("leave_type_out", category("bolt", types={"bent": 6}))


def test_type_of_one_part_cannot_be_halved() -> None:
    records = [*category("bolt", types={}), *(record("bolt", "bent", n, group="one part") for n in range(3))]
    with pytest.raises(DataError, match=r"bolt/bent: 3 images in their groups leave none to train on"):
        split("half", records)
