"""Facts about the reader of BTAD."""

from pathlib import Path

import pytest

from velm_train.core.errors import DataError
from velm_train.datasets.btad import find_btad


@pytest.fixture
def root(tmp_path: Path, put, mask_of) -> Path:
    for category, suffix, mask_suffix in (("01", "bmp", "png"), ("02", "png", "png"), ("03", "bmp", "bmp")):
        put(tmp_path / category / f"train/ok/0000.{suffix}")
        put(tmp_path / category / f"test/ok/0001.{suffix}")
        put(tmp_path / category / f"test/ko/0002.{suffix}")
        put(tmp_path / category / f"ground_truth/ko/0002.{mask_suffix}", mask_of(255))
    return tmp_path


def test_ok_is_normal_and_ko_a_defect_without_a_type(root: Path, indexed) -> None:
    records = indexed(find_btad(root, categories=["03", "01"])).records
    assert [(record.image_id, record.split, record.defect_type) for record in records] == [
        ("set/01/test/ko/0002.bmp", "test", "defect"),
        ("set/01/test/ok/0001.bmp", "test", "good"),
        ("set/01/train/ok/0000.bmp", "train", "good"),
        ("set/03/test/ko/0002.bmp", "test", "defect"),
        ("set/03/test/ok/0001.bmp", "test", "good"),
        ("set/03/train/ok/0000.bmp", "train", "good"),
    ]


def test_a_mask_may_have_another_suffix_than_its_image(root: Path, indexed) -> None:
    records = indexed(find_btad(root, categories=[])).records
    assert [record.gt_mask_paths for record in records if record.gt_label] == [
        (root / "01/ground_truth/ko/0002.png",),
        (root / "02/ground_truth/ko/0002.png",),
        (root / "03/ground_truth/ko/0002.bmp",),
    ]


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("01/test/scratch/0.png", "test holds scratch; BTAD has ok and ko there"),
        ("01/train/ko/0.png", "train holds ko; BTAD has ok there"),
        ("01/ground_truth/ko/0009.png", r"0009\.png \(one of 1\) has no image"),
        ("01/ground_truth/dent/0002.png", "dent have no images"),
        ("04/train/ok/0.png", "holds '04', which is no category of BTAD"),
    ],
)
def test_what_btad_does_not_have_is_refused(root: Path, put, extra: str, expected: str) -> None:
    put(root / extra)
    with pytest.raises(DataError, match=expected):
        find_btad(root, categories=[])


def test_a_category_without_normal_images_is_refused(root: Path) -> None:
    (root / "02/train/ok/0000.png").unlink()
    with pytest.raises(DataError, match=r"02/train/ok holds no images"):
        find_btad(root, categories=[])
