"""Which good image serves for what: the good images of one category in, those of either side out.

    split train ─┬─► four fifths: train/good, what a detector learns from
                 └─► one fifth: carry the training defects, and are written nowhere else
    split test ────► test/good, and carry the test defects

Were a training defect laid on an image of `train/good`, the detector would know the rest of that picture pixel by
pixel, and the defect would stand out as none ever does at the test. So its carriers are kept from the detector.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from velm_train.core.errors import DataError
from velm_train.core.records import ImageRecord
from velm_train.core.seeding import derive_seed
from velm_train.datasets.units import bind_units

TEST_FRACTION = 0.3
"""Share of the good images that becomes `test/good` where the data set has no test images."""

CARRIER_FRACTION = 0.2
"""Share of the good training images that carries the training defects."""

MAX_CARRIERS = 40
"""More add nothing: every carrier gets a defect of every type once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sides:
    """The good images of one category, each in one place, in the order in which they are used.

    Attributes:
        train: for `train/good`.
        carriers: to carry training defects.
        test: for `test/good`, and to carry test defects.
        test_is_new: True if the data set had no test images of its own.
    """

    train: tuple[ImageRecord, ...]
    carriers: tuple[ImageRecord, ...]
    test: tuple[ImageRecord, ...]
    test_is_new: bool


def divide(normals: Sequence[ImageRecord], *, seed: int) -> Sides:
    """Divides the good images of one category; images of one part, or of equal content, stay together.

    Images are ranked by a hash of the seed and their content, so that their names and their order do not matter.

    Raises:
        DataError: if there are fewer than four parts, or a part lies in both folders.
    """
    category = normals[0].category
    units = _units(normals, seed=seed)
    for unit in units:
        if len({record.split for record in unit}) > 1:
            one, *_, other = sorted(unit, key=lambda record: record.split, reverse=True)
            raise DataError(
                f"{one.image_id} ({one.split}) and {other.image_id} ({other.split}) share their content or group; good "
                "images of train and test must be different parts"
            )
    train = [unit for unit in units if unit[0].split == "train"]
    test = [unit for unit in units if unit[0].split == "test"]
    test_is_new = not test
    if test_is_new:
        num_test = max(1, round(TEST_FRACTION * len(train)))
        test, train = train[:num_test], train[num_test:]
    num_carriers = min(max(1, round(CARRIER_FRACTION * len(train))), MAX_CARRIERS)
    carriers, train = train[:num_carriers], train[num_carriers:]
    if len(train) < 2:
        raise DataError(
            f"category {category!r} has {len(units)} good parts ({len(normals)} images), too few to divide; at least 4 "
            "are needed, 3 of them in the training folder: some to learn from, some to carry the training defects"
        )
    return Sides(train=_flat(train), carriers=_flat(carriers), test=_flat(test), test_is_new=test_is_new)


def _units(normals: Sequence[ImageRecord], *, seed: int) -> list[list[ImageRecord]]:
    """Returns the parts, each with its images: those joined by group or content, directly or in a chain."""
    unit_of = bind_units(normals)
    units: dict[str, list[ImageRecord]] = {}
    for record in normals:
        units.setdefault(unit_of[record.image_id], []).append(record)

    def rank(record: ImageRecord) -> tuple[int, str]:
        return derive_seed(seed, "synthesis", record.sha256), record.image_id

    return sorted((sorted(unit, key=rank) for unit in units.values()), key=lambda unit: rank(unit[0]))


def _flat(units: Sequence[Sequence[ImageRecord]]) -> tuple[ImageRecord, ...]:
    return tuple(record for unit in units for record in unit)
