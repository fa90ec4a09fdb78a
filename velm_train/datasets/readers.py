"""Every reader by the name that `dataset.reader` gives it: a root folder in, `Found` out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from velm_train.datasets.auto_vi import find_auto_vi
from velm_train.datasets.btad import find_btad
from velm_train.datasets.dagm import find_dagm
from velm_train.datasets.found import Found
from velm_train.datasets.generic import find_generic_folder, find_table
from velm_train.datasets.kolektor_sdd2 import find_kolektor_sdd2
from velm_train.datasets.mpdd import find_mpdd
from velm_train.datasets.mvtec_ac import find_mvtec_ac
from velm_train.datasets.mvtec_ad import find_mvtec_ad
from velm_train.datasets.mvtec_loco import find_mvtec_loco
from velm_train.datasets.mvtec_style import find_mvtec_style
from velm_train.datasets.real_iad import find_real_iad
from velm_train.datasets.textile import find_textile
from velm_train.datasets.visa import find_visa
from velm_train.datasets.visa_ac import find_visa_ac


class Reader(Protocol):
    """Finds the images of a data set without opening them; masks only where they alone tell the type."""

    def __call__(self, root: Path, /, *, categories: Sequence[str]) -> Found:
        """Returns every image of the chosen categories, of all if none is named.

        Raises:
            DataError: if the folders are not as the data set's layout has them.
        """
        ...


READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "auto_vi": find_auto_vi,
        "btad": find_btad,
        "dagm": find_dagm,
        "generic_folder": find_generic_folder,
        "kolektor_sdd2": find_kolektor_sdd2,
        "mpdd": find_mpdd,
        "mvtec_ac": find_mvtec_ac,
        "mvtec_ad": find_mvtec_ad,
        "mvtec_loco": find_mvtec_loco,
        "mvtec_style": find_mvtec_style,
        "real_iad": find_real_iad,
        "table": find_table,
        "textile": find_textile,
        "visa": find_visa,
        "visa_ac": find_visa_ac,
    }
)
"""`dataset.reader` -> what reads that layout."""
