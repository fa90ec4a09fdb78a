"""A published split gives the user's files their roles, pins their hashes, and names every file that differs."""

import dataclasses
import hashlib
import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from velm_train.core.errors import ArtifactError, DataError
from velm_train.core.progress import SilentProgress
from velm_train.core.records import ImageRecord
from velm_train.datasets.file_index import FileIndex
from velm_train.datasets.indexing import index_images
from velm_train.datasets.manifests import SplitManifest
from velm_train.datasets.protocols import ProtocolSettings
from velm_train.datasets.published_splits import published_manifest
from velm_train.datasets.readers import READERS
from velm_train.datasets.split_files import read_classes, split_path

SETTINGS = ProtocolSettings(
    k_shot=4,
    unseen_categories=(),
    num_reference=1,
    num_validation_per_type=0,
    max_normals=0,
    max_test_per_type=0,
    calibration_fraction=0.4,
    test_normal_fraction=0.3,
    multi_label="leave_out",
    fold=0,
    num_folds=2,
    train_dataset=None,
)
NUM_TRAIN_NORMALS = 6
SPLIT = "visa_ac/p1_k4_seed0"


@pytest.fixture(scope="module")
def visa(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageRecord, ...]:
    """A tree like VisA's with VisA-AC's images and some normals, read from disk; every file is a picture of its own."""
    root = tmp_path_factory.mktemp("visa")
    picture = io.BytesIO()
    Image.new("RGB", (4, 3), (90, 80, 70)).save(picture, format="JPEG")
    for category, types in read_classes("visa_ac").items():
        images = root / category / "Data" / "Images"
        normals = types["good"]
        train = [number for number in range(2000) if number not in normals][:NUM_TRAIN_NORMALS]
        names = [f"Normal/{number:04d}.JPG" for number in (*normals, *train)]
        names += [f"Anomaly/{n:03d}.JPG" for kind, numbers in types.items() if kind != "good" for n in numbers]
        for folder in ("Normal", "Anomaly"):
            (images / folder).mkdir(parents=True)
        for name in names:
            (images / name).write_bytes(picture.getvalue() + f"{category}/{name}".encode())
    found = READERS["visa_ac"](root, categories=())
    index = FileIndex(None, num_threads=1)
    return index_images(found, dataset="visa_ac", index=index, on_bad_file="refuse", progress=SilentProgress()).records


@pytest.fixture
def cashew(visa: tuple[ImageRecord, ...]) -> list[ImageRecord]:
    return [record for record in visa if record.category == "cashew"]


@pytest.fixture
def apply(tmp_path: Path) -> Callable[..., SplitManifest]:
    """Applies a published split to one category, cashew, or to what is asked for."""

    def give(
        records: list[ImageRecord], *, name: str = SPLIT, categories: tuple[str, ...] = ("cashew",), **changes: object
    ) -> SplitManifest:
        return published_manifest(
            records,
            dataclasses.replace(SETTINGS, **changes),
            split_file=split_path(name),
            categories=categories,
            pins=tmp_path / "splits",
        )

    return give


def counts(manifest: SplitManifest) -> dict[tuple[str, str], int]:
    return dict(Counter((e.role, "good" if e.defect_type == "good" else "defect") for e in manifest.entries))


def test_visa_ac_has_929_defects_in_50_classes(
    visa: tuple[ImageRecord, ...], apply: Callable[..., SplitManifest]
) -> None:
    manifest = apply(list(visa), name="visa_ac/p0", categories=())
    tested = [entry for entry in manifest.with_role("test") if entry.defect_type != "good"]
    assert len(tested) == 929
    assert len({(entry.category, entry.defect_type) for entry in tested}) == 50
    assert len(manifest.entries) == 929 + 962 + 12 * NUM_TRAIN_NORMALS
    assert manifest.left_out == ()


def test_roles_are_those_of_the_split_and_normals_follow_the_settings(
    visa: tuple[ImageRecord, ...], apply: Callable[..., SplitManifest]
) -> None:
    manifest = apply(list(visa), categories=())
    assert counts(manifest) == {
        ("train", "defect"): 50 * 4,
        ("test", "defect"): 929 - 50 * 4,
        ("test", "good"): 962,
        ("reference", "good"): 12,
        ("calibration", "good"): 12 * 2,
        ("train", "good"): 12 * 3,
    }
    assert (manifest.protocol, manifest.seed) == (SPLIT, 0)


def test_a_copy_with_other_paths_and_endings_gets_the_same_roles(
    cashew: list[ImageRecord], apply: Callable[..., SplitManifest]
) -> None:
    copy = []
    for record in cashew:
        name = f"x/cashew/{record.split}/{record.defect_type}/{int(record.image_path.stem)}.png"
        copy.append(dataclasses.replace(record, dataset="x", image_id=name, group_id=name, image_path=Path(name)))
    ours, theirs = apply(cashew), apply(copy)
    assert {entry.sha256: entry.role for entry in ours.entries} == {e.sha256: e.role for e in theirs.entries}


def test_the_order_of_the_records_says_nothing(cashew: list[ImageRecord], apply: Callable[..., SplitManifest]) -> None:
    assert apply(cashew) == apply(cashew[::-1])


def test_hashes_are_pinned_once(cashew: list[ImageRecord], apply: Callable[..., SplitManifest], tmp_path: Path) -> None:
    apply(cashew)
    (pin,) = (tmp_path / "splits" / "visa_ac").iterdir()
    assert pin.name.startswith("p1_k4_seed0-")
    content = pin.read_bytes()
    apply(cashew, num_reference=2, max_normals=4, max_test_per_type=1)
    assert pin.read_bytes() == content
    pinned = SplitManifest.load(pin)
    assert {entry.sha256 for entry in pinned.entries} == {record.sha256 for record in cashew}


def test_an_edited_pin_is_refused(
    cashew: list[ImageRecord], apply: Callable[..., SplitManifest], tmp_path: Path
) -> None:
    apply(cashew)
    (pin,) = (tmp_path / "splits" / "visa_ac").iterdir()
    pin.write_text(pin.read_text().replace('"test"', '"train"', 1))
    with pytest.raises(ArtifactError, match="was changed"):
        apply(cashew)


def test_limits_leave_images_out_with_their_reason(
    cashew: list[ImageRecord], apply: Callable[..., SplitManifest]
) -> None:
    manifest = apply(cashew, max_test_per_type=2, max_normals=4, calibration_fraction=0.0)
    reasons = Counter(one.reason for one in manifest.left_out)
    assert reasons == {"beyond max_test_per_type=2": (69 - 5 * 4 - 5 * 2) + 48, "beyond max_normals=4": 2}


def changed(record: ImageRecord, **values: object) -> ImageRecord:
    return dataclasses.replace(record, **values)


def test_every_file_that_differs_from_the_list_is_named(
    cashew: list[ImageRecord], apply: Callable[..., SplitManifest]
) -> None:
    burnt = [record for record in cashew if record.defect_type == "burnt"]
    others = [record for record in cashew if record.defect_type != "burnt"]
    new = changed(burnt[0], image_id="visa_ac/cashew/test/burnt/777.JPG", image_path=Path("777.JPG"))
    moved = changed(burnt[1], defect_type="small-holes")
    with pytest.raises(DataError) as caught:
        apply([*others, new, moved, *burnt[2:]])
    number = int(burnt[0].image_path.stem)
    assert str(caught.value) == (
        "published split 'visa_ac/p1_k4_seed0' does not fit 3 images: "
        f"cashew/burnt/{number:03d}: missing; {moved.image_id}: class small-holes instead of burnt; "
        f"{new.image_id}: extra"
    )


def test_every_file_that_differs_from_the_pinned_ones_is_in_the_report(
    cashew: list[ImageRecord], apply: Callable[..., SplitManifest], tmp_path: Path
) -> None:
    apply(cashew)
    again = [
        changed(record, sha256=hashlib.sha256(record.image_id.encode()).hexdigest())
        if record.defect_type == "burnt"
        else record
        for record in cashew
    ]
    gone = next(record for record in again if record.defect_type == "good" and record.split == "train")
    with pytest.raises(DataError, match=r"does not fit 11 images: .*; and 6 more, all of them in"):
        apply([record for record in again if record != gone])
    (report,) = (tmp_path / "splits" / "visa_ac").glob("*.differences.txt")
    lines = report.read_text().splitlines()
    assert sorted(line.split(": ")[1] for line in lines) == ["changed content"] * 10 + ["missing"]
    assert f"{gone.image_id}: missing" in lines
    apply(cashew)
    assert not report.exists()


def test_categories_trained_on_alone_are_left_out_of_the_test(
    visa: tuple[ImageRecord, ...], apply: Callable[..., SplitManifest]
) -> None:
    manifest = apply(list(visa), name="visa_ac/p3_fold0", categories=())
    assert {entry.category for entry in manifest.with_role("test")} == set(manifest.unseen_categories)
    assert len(manifest.unseen_categories) == 3
    assert {one.reason for one in manifest.left_out} == {
        "its category is trained on, and this protocol tests only others"
    }


def test_unknown_types_are_told(cashew: list[ImageRecord], apply: Callable[..., SplitManifest]) -> None:
    manifest = apply(cashew, name="visa_ac/p5_fold0")
    assert list(manifest.unknown_types) == ["cashew"]
    trained = {entry.defect_type for entry in manifest.with_role("train")}
    assert trained.isdisjoint(manifest.unknown_types["cashew"])


def mvtec() -> list[ImageRecord]:
    """MVTec-AC by hand: as listed, with two normals a category to train on."""
    places = [
        (category, kind, "test", number)
        for category, body in read_classes("mvtec_ac").items()
        for kind, numbers in body.items()
        for number in numbers
    ]
    places += [(category, "good", "train", number) for category in read_classes("mvtec_ac") for number in (0, 1)]
    return [
        ImageRecord(
            image_id=(image_id := f"mvtec_ac/{category}/{split}/{kind}/{number:03d}.png"),
            dataset="mvtec_ac",
            category=category,
            split=split,
            defect_type=kind,
            image_path=Path(image_id),
            gt_mask_paths=(),
            sha256=hashlib.sha256(image_id.encode()).hexdigest(),
            group_id=image_id,
            size_hw=(3, 4),
        )
        for category, kind, split, number in places
    ]


def test_cross_dataset_takes_the_images_of_both_sets(
    visa: tuple[ImageRecord, ...], apply: Callable[..., SplitManifest]
) -> None:
    records = [*visa, *mvtec()]
    manifest = apply(records, name="visa_ac/p4_from_mvtec_ac", categories=(), calibration_fraction=0.0)
    assert counts(manifest) == {
        ("train", "defect"): 1142,
        ("test", "defect"): 929,
        ("test", "good"): 962,
        ("reference", "good"): 12 + 14,
        ("train", "good"): 12 * (NUM_TRAIN_NORMALS - 1) + 14,
    }
    assert len(manifest.left_out) == 455


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"num_validation_per_type": 1}, "has no validation images"),
        ({"unseen_categories": ("cashew",)}, "says itself what is unseen"),
        ({"categories": ("cashews",)}, r"category 'cashews' is not in .* \(did you mean 'cashew'\?\)"),
        ({"categories": ()}, "categories that are not on disk: candle, capsules, chewinggum"),
        ({"categories": ("candle", "cashew")}, "categories that are not on disk: candle$"),
        ({"name": "mvtec_ac/p0", "categories": ()}, r"no category named 'cashew'"),
    ],
)
def test_contradictions_are_refused(
    cashew: list[ImageRecord], apply: Callable[..., SplitManifest], changes: dict, expected: str
) -> None:
    with pytest.raises(DataError, match=expected):
        apply(cashew, **changes)


def test_a_test_image_that_repeats_a_training_image_is_left_out(
    cashew: list[ImageRecord], apply: Callable[..., SplitManifest]
) -> None:
    roles = {entry.image_id: entry.role for entry in apply(cashew).entries}
    burnt = [record for record in cashew if record.defect_type == "burnt"]
    trained = next(record for record in burnt if roles[record.image_id] == "train")
    twin = next(record for record in burnt if roles[record.image_id] == "test")
    records = [changed(one, group_id=trained.group_id) if one == twin else one for one in cashew]
    manifest = apply(records)
    (left_out,) = manifest.left_out
    assert (left_out.image_id, left_out.reason) == (twin.image_id, "its group is on the train side")
