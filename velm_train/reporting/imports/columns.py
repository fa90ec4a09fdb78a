"""CSV text goes in; rows of known columns with their line numbers come out."""

import csv
import difflib
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from velm_train.core.errors import DataError
from velm_train.reporting.imports.raw import read_text

_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One line of a CSV file: column -> text, and its place in the file."""

    path: Path
    number: int
    values: Mapping[str, str]

    @property
    def where(self) -> str:
        """The place within the file."""
        return f"line {self.number}"

    def problem(self, text: str) -> DataError:
        """Returns an error that names file and line."""
        return DataError(f"{self.path}, {self.where}: {text}")

    def text(self, column: str) -> str:
        """Returns a value that must not be empty.

        Raises:
            DataError: if it is.
        """
        if not self.values[column]:
            raise self.problem(f"{column} is empty")
        return self.values[column]

    def text_if_any(self, column: str) -> str | None:
        """Returns a value that must not be empty, or None if the file has no such column."""
        return self.text(column) if column in self.values else None

    def number_if_any(self, column: str) -> float | None:
        """Returns a finite number, or None if the file has no such column.

        Raises:
            DataError: if it is no number, or not a finite one.
        """
        text = self.text_if_any(column)
        if text is None:
            return None
        try:
            value = float(text)
        except ValueError as error:
            raise self.problem(f"{column} is {text!r}, not a number") from error
        if not math.isfinite(value):
            raise self.problem(f"{column} is {text}; a finite number is needed")
        return value

    def truth_if_any(self, column: str) -> bool | None:
        """Returns true or false, or None if the file has no such column.

        Raises:
            DataError: if it is neither.
        """
        text = self.text_if_any(column)
        if text is None:
            return None
        if text.lower() not in (*_TRUE, *_FALSE):
            raise self.problem(f"{column} is {text!r}; allowed: true, false, 1, 0")
        return text.lower() in _TRUE


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """The lines of a CSV file, and the columns that nobody reads."""

    lines: tuple[Line, ...]
    unread_columns: tuple[str, ...]


def read_table(path: Path, *, required: Sequence[str], optional: Sequence[str]) -> Table:
    """Reads a CSV file whose first line names the columns.

    Args:
        path: comma-separated UTF-8 text.
        required: columns that must be there.
        optional: columns that may be.

    Raises:
        DataError: if the file is empty, lacks a column, names one twice, or has a line of another length.
    """
    lines = _cells(path, read_text(path))
    header = [name.strip() for name in next(lines)[1]]
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise DataError(f"{path}, line 1: column {twice[0]!r} is there twice; keep one")
    for name in required:
        if name not in header:
            raise DataError(
                f"{path}, line 1: column {name!r} is missing; {_cause(name, header)}needed: {', '.join(required)}; it "
                f"has: {', '.join(header)}"
            )
    rows = []
    for number, cells in lines:
        if len(cells) != len(header):
            raise DataError(f"{path}, line {number}: {len(cells)} values for {len(header)} columns")
        values = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
        rows.append(Line(path=path, number=number, values=values))
    if not rows:
        raise DataError(f"{path} names columns but holds no row; at least one is needed")
    known = {*required, *optional}
    return Table(lines=tuple(rows), unread_columns=tuple(name for name in header if name not in known))


def _cause(missing: str, header: Sequence[str]) -> str:
    """Returns what probably happened to a column, or "" if that cannot be told."""
    separator = next((one for one in (";", "\t") if len(header) == 1 and one in header[0]), None)
    if separator is not None:
        return f"the columns are separated by {separator!r}, not by commas: save the file with commas; "
    near = difflib.get_close_matches(missing, header, n=1)
    return f"did you mean it by {near[0]!r}? " if near else ""


def _cells(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the cells of every line that is not blank, with the number of the line it starts on."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    start = 1
    try:
        for cells in reader:
            if cells:
                yield start, cells
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {start}: {error}; check its quotes") from error
