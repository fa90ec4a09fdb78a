"""Every reader by the name that `dataset.reader` gives it: a root folder in, `Found` out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from velm_train.datasets.found import Found
from velm_train.datasets.generic import find_generic_folder, find_table
from velm_train.datasets.mvtec_style import find_mvtec_style
from velm_train.datasets.textile import find_textile


class Reader(Protocol):
    """Finds the images of a data set without opening them."""

    def __call__(self, root: Path, /, *, categories: Sequence[str]) -> Found:
        """Returns every image of the chosen categories, of all if none is named.

        Raises:
            DataError: if the folders are not as the data set's layout has them.
        """
        ...


READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "generic_folder": find_generic_folder,
        "mvtec_style": find_mvtec_style,
        "table": find_table,
        "textile": find_textile,
    }
)
"""`dataset.reader` -> what reads that layout."""
