"""What holds for every protocol on any data set, whatever its groups, duplicates and types are."""

import dataclasses
import hashlib
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from velm_train.core.errors import DataError
from velm_train.core.records import ImageRecord, Split
from velm_train.datasets.manifests import TRAIN_SIDE, SplitManifest
from velm_train.datasets.protocols import PROTOCOLS, ProtocolSettings

SETTINGS = ProtocolSettings(
    k_shot=1,
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
TYPES = ("bent", "chip", "chip+rust", "rust")


Row = tuple[str, str, int, Split, str | None, str | None]


def record(row: Row) -> ImageRecord:
    category, kind, number, side, group, content = row
    image_id = f"d/{category}/{side}/{kind}/{number:03d}.png"
    return ImageRecord(
        image_id=image_id,
        dataset="d",
        category=category,
        split=side,
        defect_type=kind,
        image_path=Path(image_id),
        gt_mask_paths=(),
        sha256=hashlib.sha256((content or image_id).encode()).hexdigest(),
        group_id=group or image_id,
        size_hw=(4, 5),
    )


@st.composite
def data_sets(draw: st.DrawFn) -> list[Row]:
    """Two to three categories; defects may share parts and contents within and across types, and with normals."""
    rows: list[Row] = []
    for name in ("bolt", "cap", "nut")[: draw(st.integers(2, 3))]:
        has_test_normals = draw(st.booleans())
        parts = st.one_of(st.none(), st.integers(0, 11).map(lambda n, name=name: f"{name} part {n}"))
        twins = st.one_of(st.none(), st.none(), st.integers(0, 9).map(lambda n, name=name: f"{name} picture {n}"))
        rows += [(name, "good", n, "train", f"{name} part {n}", None) for n in range(draw(st.integers(5, 7)))]
        if has_test_normals:
            rows += [(name, "good", n, "test", f"{name} part {n + 8}", None) for n in range(2)]
        for kind in draw(st.lists(st.sampled_from(TYPES), min_size=2, unique=True)):
            for number in range(draw(st.integers(4, 9))):
                rows.append((name, kind, number, "test", draw(parts), draw(twins)))
    return rows


def make(protocol: str, records: list[ImageRecord], **changes: object) -> SplitManifest:
    """Makes a split, or passes over a data set that is too small for it."""
    seed = changes.pop("seed", 0)
    try:
        return PROTOCOLS[protocol](records, dataclasses.replace(SETTINGS, **changes), seed=seed)
    except DataError:
        assume(False)
        raise


def as_two_sets(records: list[ImageRecord]) -> list[ImageRecord]:
    return [dataclasses.replace(one, dataset="other") if one.category == "bolt" else one for one in records]


CASES = st.fixed_dictionaries(
    {
        "k_shot": st.integers(0, 3),
        "multi_label": st.sampled_from(["leave_out", "joint"]),
        "num_validation_per_type": st.integers(0, 1),
        "fold": st.integers(0, 1),
        "seed": st.integers(0, 3),
        "calibration_fraction": st.sampled_from([0.0, 0.4]),
    }
)


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
@settings(max_examples=25, deadline=None)
@given(rows=data_sets(), case=CASES, data=st.data())
def test_every_protocol_is_sound(protocol: str, rows: list[Row], case: dict, data: st.DataObject) -> None:
    records = [record(row) for row in rows]
    if protocol == "cross_dataset":
        records, case = as_two_sets(records), case | {"train_dataset": "other"}
    manifest = make(protocol, records, **case)
    # every record has either a role or a reason
    named = [one.image_id for one in (*manifest.entries, *manifest.left_out)]
    assert sorted(named) == sorted(one.image_id for one in records)
    # units are never on both sides
    sides: dict[str, set[bool]] = {}
    for entry in manifest.entries:
        for unit in (entry.group_id, entry.sha256):
            sides.setdefault(unit, set()).add(entry.role in TRAIN_SIDE)
    assert all(len(side) == 1 for side in sides.values())
    # what is unseen or unknown is only tested
    for entry in manifest.entries:
        unknown = manifest.unknown_types.get(entry.category, ())
        if entry.defect_type != "good" and (
            entry.category in manifest.unseen_categories or entry.defect_type in unknown
        ):
            assert entry.role == "test"
    # the order of the records says nothing
    order = data.draw(st.permutations(range(len(records))))
    assert make(protocol, [records[place] for place in order], **case) == manifest


@settings(max_examples=40, deadline=None)
@given(rows=data_sets(), seed=st.integers(0, 5))
def test_smaller_k_is_nested_in_larger(rows: list[Row], seed: int) -> None:
    records = [record(row) for row in rows]
    shots = [
        {
            entry.image_id
            for entry in make("k_shot", records, k_shot=k, seed=seed).with_role("train")
            if is_defect(entry)
        }
        for k in (1, 2, 3)
    ]
    assert shots[0] < shots[1] < shots[2]


def is_defect(entry: object) -> bool:
    return entry.defect_type != "good"


@settings(max_examples=30, deadline=None)
@given(rows=data_sets(), num_folds=st.integers(2, 3))
def test_folds_leave_every_category_out_once(rows: list[Row], num_folds: int) -> None:
    records = [record(row) for row in rows]
    folds = [make("leave_category_out", records, k_shot=0, fold=f, num_folds=num_folds) for f in range(num_folds)]
    left_out = [name for manifest in folds for name in manifest.unseen_categories]
    assert sorted(left_out) == sorted({one.category for one in records})
