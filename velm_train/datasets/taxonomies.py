"""Finds a data set's taxonomy file by name, and the defect types that occur in a list of records."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from velm_train.core.errors import DataError
from velm_train.core.records import ImageRecord
from velm_train.datasets.reading import nearest

_PACKAGE = Path(__file__).resolve().parents[1]

_FOLDERS = (_PACKAGE.parent / "data" / "taxonomies", _PACKAGE / "taxonomies")
"""In a source checkout, and inside an installed wheel."""


def taxonomy_names() -> tuple[str, ...]:
    """Returns the data sets that bring a taxonomy, in alphabetical order."""
    return tuple(sorted({path.stem for folder in _FOLDERS for path in folder.glob("*.json")}))


def taxonomy_path(name: str) -> Path:
    """Returns the taxonomy file of a data set.

    Raises:
        DataError: if there is none of that name, with the nearest spelling.
    """
    for folder in _FOLDERS:
        path = folder / f"{name}.json"
        if path.is_file():
            return path
    known = taxonomy_names()
    raise DataError(f"no taxonomy named {name!r}{nearest(name, known)}; known: {', '.join(known)}")


def found_types(records: Iterable[ImageRecord]) -> dict[str, set[str]]:
    """Returns category -> defect types that occur, without "good"; a category of normals alone has an empty set."""
    types: defaultdict[str, set[str]] = defaultdict(set)
    for record in records:
        types[record.category] |= set(record.defect_types)
    return dict(types)
