"""Facts about the reader of MVTec-AC."""

from pathlib import Path

import pytest

from velm_train.core.errors import DataError
from velm_train.datasets.mvtec_ac import MVTEC_AC_TYPES, find_mvtec_ac


@pytest.fixture
def root(tmp_path: Path, put, mask_of) -> Path:
    put(tmp_path / "screw/train/good/000.png")
    put(tmp_path / "screw/test/good/000.png")
    put(tmp_path / "screw/test/scratch_thread/000.png")
    put(tmp_path / "screw/test/scratch_thread/001.png")
    put(tmp_path / "screw/ground_truth/scratch_thread/000_mask.png", mask_of(255))
    return tmp_path


def test_there_are_64_types_in_14_categories() -> None:
    assert (len(MVTEC_AC_TYPES), sum(map(len, MVTEC_AC_TYPES.values()))) == (14, 64)
    assert "toothbrush" not in MVTEC_AC_TYPES
    assert not any("combined" in types for types in MVTEC_AC_TYPES.values())


@pytest.mark.parametrize(
    ("category", "expected"),
    [
        ("bottle", ("broken_large", "broken_small", "contamination")),
        ("capsule", ("crack", "faulty_imprint", "scratch", "squeeze")),
        ("carpet", ("color", "cut", "metal_contamination", "thread")),
        ("screw", ("manipulated_front", "scratch_head", "scratch_neck", "scratch_thread")),
        ("wood", ("color", "hole", "liquid", "scratch")),
        ("zipper", ("broken_teeth", "fabric_border", "fabric_interior", "split_teeth", "squeezed_teeth")),
    ],
)
def test_merged_and_dropped_types(category: str, expected: tuple[str, ...]) -> None:
    assert MVTEC_AC_TYPES[category] == expected


def test_the_folder_is_the_type_and_absent_masks_are_counted(root: Path, indexed) -> None:
    found = find_mvtec_ac(root, categories=["screw"])
    records = indexed(found).records
    assert [(record.image_id, record.defect_type, len(record.gt_mask_paths)) for record in records] == [
        ("set/screw/test/good/000.png", "good", 0),
        ("set/screw/test/scratch_thread/000.png", "scratch_thread", 1),
        ("set/screw/test/scratch_thread/001.png", "scratch_thread", 0),
        ("set/screw/train/good/000.png", "good", 0),
    ]
    assert found.notes == (f"defect images without a mask: 1, first {root / 'screw/test/scratch_thread/001.png'}",)


@pytest.mark.parametrize(
    "sign",
    [
        "toothbrush",
        "cable/test/combined",
        "capsule/test/poke",
        "carpet/test/hole",
        "screw/test/thread_top",
        "zipper/test/rough",
    ],
)
def test_a_copy_of_mvtec_ad_is_refused(root: Path, put, sign: str) -> None:
    put(root / sign / "000.png")
    with pytest.raises(DataError) as caught:
        find_mvtec_ac(root, categories=[])
    assert f"is MVTec AD, not MVTec-AC: it holds {sign}; only 7 of the 14 categories" in str(caught.value)


def test_types_kept_by_mvtec_ac_are_no_sign_of_mvtec_ad(root: Path, put) -> None:
    put(root / "leather/train/good/0.png")
    put(root / "leather/test/poke/0.png")
    assert len(find_mvtec_ac(root, categories=["leather"]).images) == 2


def test_an_unknown_type_is_refused(root: Path, put) -> None:
    put(root / "screw/test/scratch_thred/000.png")
    with pytest.raises(DataError, match=r"no type 'scratch_thred' \(did you mean 'scratch_thread'\?\)"):
        find_mvtec_ac(root, categories=[])
