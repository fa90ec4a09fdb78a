"""Compares the files a split expects with those on disk: two lists in, one line for every file that differs out."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from velm_train.core.artifacts import write_atomic
from velm_train.core.errors import DataError

FilePlace = tuple[str, str, str, str]
"""Category, class, folder split and number: the same in every copy of a data set, whatever the files are called."""

_MAX_NAMED = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class PlacedFile:
    """One file of a data set.

    Attributes:
        place: where it belongs.
        sha256: of its bytes, or None where that is not known.
        name: for messages.
    """

    place: FilePlace
    sha256: str | None
    name: str


def number_of(stem: str) -> str:
    """Returns a file name's number without leading zeros, or the whole name if it is not a number."""
    return str(int(stem)) if stem.isascii() and stem.isdigit() else stem


def compare_files(expected: Sequence[PlacedFile], found: Sequence[PlacedFile]) -> list[str]:
    """Returns one line for each file that is missing, extra, doubled, changed or in another class, sorted.

    A file counts as one of another class if its content, or where hashes are not known its category and number, is
    missing in one class and extra in one other.
    """
    wanted = {file.place: file for file in expected}
    there = {file.place: file for file in reversed(found)}
    lines = [
        f"{file.name}: doubled, {there[file.place].name} has its number" for file in found if there[file.place] != file
    ]
    lines += [
        f"{there[place].name}: changed content"
        for place, file in wanted.items()
        if place in there and None not in {file.sha256, there[place].sha256} and file.sha256 != there[place].sha256
    ]
    missing = [file for place, file in wanted.items() if place not in there]
    extra = [file for place, file in there.items() if place not in wanted]
    moved = _moved(missing, extra)
    lines += [
        f"{file.name}: class {file.place[1]} instead of {moved[file].place[1]}" for file in extra if file in moved
    ]
    lines += [f"{file.name}: extra" for file in extra if file not in moved]
    gone = set(missing) - set(moved.values())
    return sorted([*lines, *(f"{file.name}: missing" for file in gone)])


def _moved(missing: Sequence[PlacedFile], extra: Sequence[PlacedFile]) -> dict[PlacedFile, PlacedFile]:
    """Returns extra file -> the missing file that it is, where there is no doubt."""
    by_key: dict[Hashable, list[PlacedFile]] = defaultdict(list)
    for file in missing:
        by_key[_identity(file)].append(file)
    occurrences = Counter(_identity(file) for file in extra)
    return {
        file: by_key[key][0]
        for file in extra
        if (key := _identity(file)) in by_key and len(by_key[key]) == 1 and occurrences[key] == 1
    }


def _identity(file: PlacedFile) -> Hashable:
    category, _, split, number = file.place
    return (category, split, number) if file.sha256 is None else (category, file.sha256)


def refuse_differences(lines: Sequence[str], *, name: str, report: Path) -> None:
    """Refuses files that do not fit a split; a report file names all of them where one message cannot.

    Args:
        lines: of `compare_files`.
        name: of the split.
        report: the file to write; a report of an earlier run is removed if there is nothing to report.

    Raises:
        DataError: if there is any line.
    """
    if not lines:
        report.unlink(missing_ok=True)
        return
    shown = "; ".join(lines[:_MAX_NAMED])
    if len(lines) > _MAX_NAMED:
        write_atomic(report, "\n".join(lines) + "\n")
        shown += f"; and {len(lines) - _MAX_NAMED} more, all of them in {report}"
    raise DataError(f"published split {name!r} does not fit {len(lines)} images: {shown}")
