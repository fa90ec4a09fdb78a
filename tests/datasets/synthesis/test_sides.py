"""Which good image carries which defects, and which the detector may learn from."""

from pathlib import Path

import pytest

from velm_train.core.errors import DataError
from velm_train.core.records import ImageRecord
from velm_train.datasets.synthesis.sides import divide


def record(number: int, *, split: str = "train", group: str = "", sha: str = "") -> ImageRecord:
    image_id = f"set/bolt/{split}/good/{number:03d}.png"
    return ImageRecord(
        image_id=image_id,
        dataset="set",
        category="bolt",
        split=split,
        defect_type="good",
        image_path=Path(f"{number:03d}.png"),
        gt_mask_paths=(),
        sha256=sha or f"{number:064d}",
        group_id=group or image_id,
        size_hw=(80, 100),
    )


def ids(records) -> set[str]:
    return {record.image_id for record in records}


def test_folders_with_test_images_keep_them() -> None:
    records = [record(n) for n in range(10)] + [record(n, split="test") for n in range(10, 14)]
    sides = divide(records, seed=0)
    assert {one.split for one in sides.test} == {"test"}
    assert (len(sides.train), len(sides.carriers), len(sides.test)) == (8, 2, 4)
    assert not sides.test_is_new
    assert ids(sides.train) | ids(sides.carriers) | ids(sides.test) == ids(records)


def test_without_test_images_three_tenths_become_the_test() -> None:
    sides = divide([record(n) for n in range(20)], seed=0)
    assert (len(sides.train), len(sides.carriers), len(sides.test)) == (11, 3, 6)
    assert sides.test_is_new
    assert len(ids(sides.train) | ids(sides.carriers) | ids(sides.test)) == 20


def test_neither_order_nor_names_decide_but_the_seed_does() -> None:
    records = [record(n) for n in range(20)]
    assert divide(records[::-1], seed=0) == divide(records, seed=0)
    assert ids(divide(records, seed=1).test) != ids(divide(records, seed=0).test)


def test_images_of_one_part_or_content_stay_together() -> None:
    records = [record(n, group=f"part{n // 3}") for n in range(24)]
    records += [record(30, sha=f"{0:064d}")]  # equals an image of part0 byte by byte
    for seed in range(5):
        sides = divide(records, seed=seed)
        for part in range(8):
            members = {f"set/bolt/train/good/{n:03d}.png" for n in range(3 * part, 3 * part + 3)}
            members |= {"set/bolt/train/good/030.png"} if part == 0 else set()
            assert sum(members <= ids(side) for side in (sides.train, sides.carriers, sides.test)) == 1


@pytest.mark.parametrize(("num_train", "num_test", "fits"), [(3, 0, False), (4, 0, True), (2, 5, False), (3, 1, True)])
def test_four_parts_are_enough_if_three_may_be_trained_on(num_train, num_test, fits) -> None:
    records = [record(n) for n in range(num_train)] + [record(50 + n, split="test") for n in range(num_test)]
    if fits:
        sides = divide(records, seed=0)
        assert min(len(sides.train) - 1, len(sides.carriers), len(sides.test)) >= 1
    else:
        with pytest.raises(DataError, match="too few to divide; at least 4 are needed"):
            divide(records, seed=0)


def test_a_part_in_both_folders_is_refused() -> None:
    records = [record(n) for n in range(6)] + [record(9, split="test", sha=f"{2:064d}")]
    with pytest.raises(DataError, match=r"train/good/002.png \(train\) and .*test/good/009.png \(test\) share"):
        divide(records, seed=0)
