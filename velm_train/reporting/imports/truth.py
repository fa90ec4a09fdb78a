"""Which images a test set has and what they show: a CSV file or a list by number in, a table of image ids out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from velm_train.core.records import NORMAL_DEFECT_TYPE
from velm_train.reporting.imports.columns import read_table
from velm_train.reporting.imports.raw import require_once


@dataclass(frozen=True, kw_only=True, slots=True)
class GroundTruth:
    """What one image of the test set shows; `group` is None if nobody said."""

    category: str
    defect_type: str
    group: str | None


Truth = Mapping[str, GroundTruth]
"""Image id -> what it shows; every image of the test set is in it."""


def read_truth(path: Path) -> dict[str, GroundTruth]:
    """Reads a CSV file with columns image_id, category, defect_type and perhaps group.

    Raises:
        DataError: naming the line that is not as it has to be, or that holds an image again.
    """
    table = read_table(path, required=("image_id", "category", "defect_type"), optional=("group",))
    require_once(path, ((line.text("image_id"), line.where) for line in table.lines))
    return {
        line.text("image_id"): GroundTruth(
            category=line.text("category"), defect_type=line.text("defect_type"), group=line.text_if_any("group")
        )
        for line in table.lines
    }


def truth_by_number(numbers: Mapping[str, Mapping[str, Sequence[int]]]) -> dict[str, GroundTruth]:
    """Returns the truth of a set whose images are known by category, class and number.

    Args:
        numbers: category -> class, "good" among them -> numbers of its images.
    """
    return {
        numbered_id(category, kind, number): GroundTruth(category=category, defect_type=kind, group=None)
        for category, kinds in numbers.items()
        for kind, members in kinds.items()
        for number in members
    }


def numbered_id(category: str, kind: str, number: int) -> str:
    """Returns the image id of an image that is known by category, class and number."""
    return f"{category}/{kind}/{number:03d}"


def types_by_category(pairs: Sequence[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Returns category -> its defect types in alphabetical order, "good" left out, from pairs of both."""
    return {
        category: tuple(sorted({kind for name, kind in pairs if name == category and kind != NORMAL_DEFECT_TYPE}))
        for category in sorted({name for name, _ in pairs})
    }
