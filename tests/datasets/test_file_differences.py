"""Every way in which files can differ from what a split expects is one line."""

from pathlib import Path

import pytest

from velm_train.core.errors import DataError
from velm_train.datasets.file_differences import PlacedFile, compare_files, number_of, refuse_differences


def placed(kind: str, number: int, sha256: str | None = None, *, name: str = "") -> PlacedFile:
    return PlacedFile(place=("cap", kind, "test", str(number)), sha256=sha256, name=name or f"{kind}/{number}")


@pytest.mark.parametrize(("stem", "number"), [("000", "0"), ("0011", "11"), ("7", "7"), ("a7", "a7"), ("٣", "٣")])
def test_numbers_are_read_without_leading_zeros(stem: str, number: str) -> None:
    assert number_of(stem) == number


def test_equal_files_make_no_line() -> None:
    files = [placed("bent", 0, "x"), placed("bent", 1, "y")]
    assert compare_files(files, files[::-1]) == []


def test_unknown_hashes_are_not_compared() -> None:
    assert compare_files([placed("bent", 0)], [placed("bent", 0, "x")]) == []


def test_every_difference_is_a_line() -> None:
    expected = [placed("bent", 0, "a"), placed("bent", 1, "b"), placed("bent", 2, "c"), placed("rust", 3, "d")]
    found = [
        placed("bent", 0, "a"),
        placed("bent", 0, "a", name="bent/0 again"),
        placed("bent", 1, "changed"),
        placed("rust", 9, "c"),
        placed("rust", 4, "new"),
    ]
    assert compare_files(expected, found) == [
        "bent/0 again: doubled, bent/0 has its number",
        "bent/1: changed content",
        "rust/3: missing",
        "rust/4: extra",
        "rust/9: class rust instead of bent",
    ]


def test_without_hashes_a_number_that_is_gone_here_and_new_there_is_of_another_class() -> None:
    assert compare_files([placed("bent", 5)], [placed("rust", 5)]) == ["rust/5: class rust instead of bent"]


def test_where_two_files_may_be_meant_nothing_is_guessed() -> None:
    lines = compare_files([placed("bent", 5), placed("chip", 5)], [placed("rust", 5)])
    assert lines == ["bent/5: missing", "chip/5: missing", "rust/5: extra"]


def test_few_lines_are_all_in_the_message(tmp_path: Path) -> None:
    report = tmp_path / "report.txt"
    with pytest.raises(DataError, match=r"'p' does not fit 2 images: a: missing; b: extra$"):
        refuse_differences(["a: missing", "b: extra"], name="p", report=report)
    assert not report.exists()


def test_many_lines_are_all_in_the_report(tmp_path: Path) -> None:
    report = tmp_path / "below" / "report.txt"
    lines = [f"{n}: missing" for n in range(7)]
    with pytest.raises(DataError) as caught:
        refuse_differences(lines, name="p", report=report)
    assert str(caught.value).endswith(f"4: missing; and 2 more, all of them in {report}")
    assert report.read_text().splitlines() == lines
    refuse_differences([], name="p", report=report)
    assert not report.exists()
