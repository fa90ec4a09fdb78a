"""What the readers of VisA and VisA-AC share: category and class names, folders, and the list of VisA-AC's images."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from velm_train.core.errors import DataError
from velm_train.core.records import NORMAL_DEFECT_TYPE
from velm_train.datasets.reading import list_images, printable

VISA_TYPES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "candle": (
            "chunk-of-wax-missing",
            "damaged-corner-of-packaging",
            "weird-candle-wick",
            "different-colour-spot",
            "extra-wax-in-candle",
            "foreign-particles-on-candle",
            "wax-melted-out-of-the-candle",
            "other",
        ),
        "capsules": ("bubble", "discolor", "scratch", "leak", "misshape"),
        "cashew": (
            "burnt",
            "corner-or-edge-breakage",
            "different-colour-spot",
            "middle-breakage",
            "small-holes",
            "small-scratches",
            "stuck-together",
            "same-colour-spot",
            "other",
        ),
        "chewinggum": (
            "chunk-of-gum-missing",
            "corner-missing",
            "scratches",
            "similar-colour-spot",
            "small-cracks",
            "other",
        ),
        "fryum": (
            "burnt",
            "corner-or-edge-breakage",
            "different-colour-spot",
            "fryum-stuck-together",
            "middle-breakage",
            "similar-colour-spot",
            "small-scratches",
            "other",
        ),
        "macaroni1": (
            "chip-around-edge-and-corner",
            "different-colour-spot",
            "middle-breakage",
            "similar-colour-spot",
            "small-cracks",
            "small-scratches",
            "other",
        ),
        "macaroni2": (
            "breakage-down-the-middle",
            "colour-spot-similar-to-the-object",
            "different-colour-spot",
            "small-chip-around-edge",
            "small-cracks",
            "small-scratches",
            "other",
        ),
        "pcb1": ("bent", "melt", "scratch", "missing"),
        "pcb2": ("bent", "melt", "scratch", "missing"),
        "pcb3": ("bent", "melt", "scratch", "missing"),
        "pcb4": ("burnt", "scratch", "missing", "damage", "extra", "wrong-place", "dirt"),
        "pipe_fryum": (
            "burnt",
            "corner-and-edge-breakage",
            "different-colour-spot",
            "middle-breakage",
            "similar-colour-spot",
            "small-scratches",
            "stuck-together",
            "small-cracks",
            "other",
        ),
    }
)
"""Category -> defect types as `canonical_label` spells them, in the order of their class numbers in the masks, from 1.

Source: the class numbers of amazon-science/spot-diff, `utils/id2class.py`.
"""

NORMAL_FOLDER = Path("Data", "Images", "Normal")
ANOMALY_FOLDER = Path("Data", "Images", "Anomaly")
MASK_FOLDER = Path("Data", "Masks", "Anomaly")

CLASSES_FILE = "visa_ac_classes.json"
_SCHEMA_VERSION = 1

_PACKAGE = Path(__file__).resolve().parents[1]
_LIST_FOLDERS = (_PACKAGE.parent / "data" / "splits", _PACKAGE / "splits")
"""In a source checkout, and inside an installed wheel."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VisaAcCategory:
    """One category of VisA-AC by the numbers of VisA's images.

    Attributes:
        test_normals: numbers below `Data/Images/Normal`; also VisA's own test normals (`split_csv/1cls.csv`).
        anomalies: class -> numbers below `Data/Images/Anomaly`.
    """

    test_normals: tuple[int, ...]
    anomalies: Mapping[str, tuple[int, ...]]


def read_visa_ac_classes() -> dict[str, VisaAcCategory]:
    """Reads the list of VisA-AC's images that comes with the package.

    Raises:
        DataError: if it is absent, damaged, or of another schema version.
    """
    path = next((folder / CLASSES_FILE for folder in _LIST_FOLDERS if (folder / CLASSES_FILE).is_file()), None)
    if path is None:
        raise DataError(f"{CLASSES_FILE} is not in {' or '.join(map(str, _LIST_FOLDERS))}; install velm_train again")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema_version"] != _SCHEMA_VERSION:
            raise DataError(f"{path}: schema version {content['schema_version']}, expected {_SCHEMA_VERSION}")
        return {name: _category(body) for name, body in content["categories"].items()}
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is damaged ({error}); install velm_train again") from error


def _category(body: dict[str, list[int]]) -> VisaAcCategory:
    numbers = {name: tuple(listed) for name, listed in body.items()}
    test_normals = numbers.pop(NORMAL_DEFECT_TYPE)
    return VisaAcCategory(test_normals=test_normals, anomalies=MappingProxyType(numbers))


def number_images(folder: Path) -> dict[int, Path]:
    """Returns number -> image of a folder whose files are named by numbers, as `0007.JPG`.

    Raises:
        DataError: naming a file that has no number, or the number of another.
    """
    images: dict[int, Path] = {}
    for path in list_images(folder):
        if not (path.stem.isascii() and path.stem.isdigit()):
            raise DataError(f"image {printable(path)} is not named by a number; VisA's images are")
        other = images.setdefault(int(path.stem), path)
        if other is not path:
            raise DataError(f"images {other} and {path} have one number; keep one of them")
    return images


def refuse_conversion(root: Path, categories: Sequence[str]) -> None:
    """Refuses VisA as its preparation script leaves it, with types thrown away.

    Raises:
        DataError: naming the folder that shows it.
    """
    for category in categories:
        bad = root / category / "test" / "bad"
        if bad.is_dir():
            raise DataError(
                f"{root} is VisA after its 1cls conversion ({bad} exists), which throws the defect types away; give "
                f"VisA as downloaded, with {category}/Data and {category}/image_anno.csv"
            )
