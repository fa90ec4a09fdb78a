"""Facts about what readers hand over."""

from pathlib import Path

import pytest

from velm_train.datasets.found import FoundImage, types_of_folder


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("good", ()),
        ("cut", ("cut",)),
        ("leak+bubble", ("bubble", "leak")),
        ("cut+cut", ("cut",)),
        ("middle-breakage_small-scratches", ("middle-breakage_small-scratches",)),
        ("Good", ("Good",)),
    ],
)
def test_a_folder_name_gives_its_types(name: str, expected: tuple[str, ...]) -> None:
    assert types_of_folder(name) == expected


@pytest.mark.parametrize(
    ("types", "expected"), [((), "good"), (("cut",), "cut"), (("leak", "bubble"), "bubble+leak"), (("a-b",), "a-b")]
)
def test_types_are_joined_in_alphabetical_order(types: tuple[str, ...], expected: str) -> None:
    image = FoundImage(
        path=Path("a.png"),
        category="parts",
        relative_path="a.png",
        split="test",
        defect_types=types,
        gt_mask_paths=(),
        group_id=None,
        where="",
    )
    assert image.defect_type == expected
