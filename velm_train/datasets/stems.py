"""Files by what they are named after: paths in, stem -> path out, and never two files of one stem."""

from collections.abc import Iterable
from pathlib import Path

from velm_train.core.errors import DataError
from velm_train.datasets.reading import printable


def by_stem(paths: Iterable[Path], *, ending: str) -> dict[str, Path]:
    """Returns every file by its stem without an ending.

    Args:
        paths: files.
        ending: last letters of the stem to take off where they are there, such as `_mask`; "" for none.

    Raises:
        DataError: if two files have one stem, such as `a.png` and `a.jpg`.
    """
    found: dict[str, Path] = {}
    for path in paths:
        other = found.setdefault(path.stem.removesuffix(ending), path)
        if other is not path:
            raise DataError(
                f"{printable(other)} and {printable(path)} are named alike, so it is not clear which of them belongs "
                "to which image and mask; keep one"
            )
    return found
