"""Facts about the reader of MPDD."""

from pathlib import Path

import pytest

from velm_train.core.errors import DataError
from velm_train.datasets.mpdd import find_mpdd


@pytest.fixture
def root(tmp_path: Path, put, mask_of) -> Path:
    put(tmp_path / "bracket_black/train/good/000.png")
    put(tmp_path / "bracket_black/test/hole/000.png")
    put(tmp_path / "bracket_black/ground_truth/hole/000_mask.png", mask_of(255))
    return tmp_path


def test_images_types_and_masks_are_read(root: Path, indexed) -> None:
    records = indexed(find_mpdd(root, categories=[])).records
    assert [(record.image_id, record.category, record.defect_type) for record in records] == [
        ("set/bracket_black/test/hole/000.png", "bracket_black", "hole"),
        ("set/bracket_black/train/good/000.png", "bracket_black", "good"),
    ]
    assert records[0].gt_mask_paths == (root / "bracket_black/ground_truth/hole/000_mask.png",)


def test_absent_categories_and_masks_are_noted(root: Path, put) -> None:
    put(root / "bracket_black/test/hole/001.png")
    assert find_mpdd(root, categories=[]).notes == (
        "1 of 6 categories are there; without bracket_brown, bracket_white, connector, metal_plate, tubes",
        f"defect images without a mask: 1, first {root / 'bracket_black/test/hole/001.png'}",
    )


def test_a_misspelt_category_is_refused(root: Path, put) -> None:
    put(root / "tube/train/good/000.png")
    with pytest.raises(DataError, match=r"holds 'tube' \(did you mean 'tubes'\?\), which is no category of MPDD"):
        find_mpdd(root, categories=[])
