"""What a protocol is told, and what it decides before any image is chosen: plain values, checked when made."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from velm_train.core.errors import DataError

TypeKey = tuple[str, str]
"""Category and defect type."""

MultiLabel = Literal["leave_out", "joint"]
"""What an image of several types is: left out, or one of a type of its own with the joined name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProtocolSettings:
    """How a protocol selects; each one reads what concerns it.

    Attributes:
        k_shot: training defects of each type. For leave_category_out and cross_dataset 0 means all; zero_shot and
            half do not read it.
        unseen_categories: categories whose defects are all for testing, whatever the protocol.
        num_reference: normals of split "train", per category, shown to the model as references.
        num_validation_per_type: defects with role validation, of each type that is trained on.
        max_normals: limit of reference, calibration and training normals together, per category; 0 for none.
        max_test_per_type: limit of test images of each type, "good" included, per category; 0 for none.
        calibration_fraction: share in [0, 1) of the normals left after the references that is held out to calibrate
            the gate; 0 if it calibrates by leave-one-out.
        test_normal_fraction: share in (0, 1) of the normals that becomes test, only in tested categories that have no
            normals of split "test".
        multi_label: what becomes of images that show several types.
        fold: which part is left out, 0 to num_folds - 1; for leave_category_out and leave_type_out.
        num_folds: parts that the categories, or the types of a category, are dealt to; 2 or more.
        train_dataset: for cross_dataset the data set that is trained on; None for the others.
    """

    k_shot: int
    unseen_categories: tuple[str, ...]
    num_reference: int
    num_validation_per_type: int
    max_normals: int
    max_test_per_type: int
    calibration_fraction: float
    test_normal_fraction: float
    multi_label: MultiLabel
    fold: int
    num_folds: int
    train_dataset: str | None

    def __post_init__(self) -> None:
        """Refuses values outside their ranges."""
        for name in ("k_shot", "num_reference", "num_validation_per_type", "max_normals", "max_test_per_type"):
            if getattr(self, name) < 0:
                raise DataError(f"{name} is {getattr(self, name)}; it must be at least 0")
        if not 0.0 <= self.calibration_fraction < 1.0:
            raise DataError(f"calibration_fraction is {self.calibration_fraction}; it must lie in [0, 1)")
        if not 0.0 < self.test_normal_fraction < 1.0:
            raise DataError(f"test_normal_fraction is {self.test_normal_fraction}; it must lie in (0, 1)")
        if self.num_folds < 2:
            raise DataError(f"num_folds is {self.num_folds}; it must be at least 2")
        if not 0 <= self.fold < self.num_folds:
            raise DataError(
                f"fold is {self.fold}; with num_folds={self.num_folds} it must be 0 to {self.num_folds - 1}"
            )

    def common(self) -> dict[str, object]:
        """Returns what every protocol reads, in the form that the manifest keeps."""
        return {
            "unseen_categories": sorted(self.unseen_categories),
            "num_reference": self.num_reference,
            "num_validation_per_type": self.num_validation_per_type,
            "max_normals": self.max_normals,
            "max_test_per_type": self.max_test_per_type,
            "calibration_fraction": self.calibration_fraction,
            "test_normal_fraction": self.test_normal_fraction,
            "multi_label": self.multi_label,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Rest:
    """What becomes of images that are on the test side.

    Attributes:
        tested: True if they are test images.
        max_test: limit of test images of one type in one category; 0 for none.
        reason: why they are left out if they are not.
    """

    tested: bool
    max_test: int
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a protocol decides about categories and types.

    Attributes:
        unseen: categories of which no defect is trained on; all of them are tested.
        untested: categories without test images.
        unknown: category -> types of a seen category that are never trained on and are all tested.
        train: defects of every other type that are trained on: a number, half of them, or all.
        test_first: True if the defects of unseen categories are put on the test side before any is chosen for
            training, False if after it.
    """

    unseen: frozenset[str]
    untested: frozenset[str]
    unknown: Mapping[str, tuple[str, ...]]
    train: int | Literal["half", "all"]
    test_first: bool

    def is_trained(self, key: TypeKey) -> bool:
        """True if defects of this type of this category are trained on."""
        category, defect_type = key
        return category not in self.unseen and not (category in self.unknown and defect_type in self.unknown[category])
