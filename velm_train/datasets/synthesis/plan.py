"""What a synthesis will write, before it writes: good images and settings in, every file with its source out."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from velm_train.core.errors import DataError
from velm_train.core.records import NORMAL_DEFECT_TYPE, ImageRecord, Split
from velm_train.core.seeding import generator
from velm_train.datasets.synthesis.making import MIN_SIDE_PX
from velm_train.datasets.synthesis.sides import Sides, divide

NUM_DONORS = 2
"""Other good images that an operator may take pixels from."""

ForegroundMode = Literal["auto", "whole"]
"""Defects on the part where one is found on a plain background, or anywhere in the picture."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SynthesisSettings:
    """What to make.

    Attributes:
        per_type: images of each type in each category, at least 1; half of them (rounded up) for the training side.
        foreground: where defects may lie.
        seed: root seed.
    """

    per_type: int
    foreground: ForegroundMode
    seed: int

    def __post_init__(self) -> None:
        """Checks that there is something to make."""
        if self.per_type < 1:
            raise DataError(f"per_type is {self.per_type}; it must be at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class GoodFile:
    """One good image to link or copy: its path below the data set's root, where it comes from, and its group."""

    path: str
    source: ImageRecord
    group: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DefectFile:
    """One defect image to make.

    Attributes:
        category: name of the category.
        defect_type: name of the type.
        number: of the image within its type, from 0.
        side: the side of a split that the image is for.
        sources: good images to lay the defect on, in the order in which they are tried.
        donors: other good images of the same side, to take pixels from.
    """

    category: str
    defect_type: str
    number: int
    side: Split
    sources: tuple[ImageRecord, ...]
    donors: tuple[ImageRecord, ...]

    @property
    def path(self) -> str:
        """Path of the image below the data set's root."""
        return f"{self.category}/test/{self.defect_type}/{self.number:03d}.png"

    @property
    def gt_mask_path(self) -> str:
        """Path of the mask below the data set's root."""
        return f"{self.category}/ground_truth/{self.defect_type}/{self.number:03d}_mask.png"

    def group(self, source: ImageRecord) -> str:
        """Returns what is equal for all images that must stay on one side of a split.

        All training carriers of a category form one group, since pixels of one may be pasted into another and a
        protocol might otherwise part them. A test carrier keeps the group of its good image, which is in `test/good`.
        """
        return f"{self.category}/training_carriers" if self.side == "train" else source.group_id


def divide_all(records: Sequence[ImageRecord], *, seed: int) -> dict[str, Sides]:
    """Returns category -> the good images of either side, in alphabetical order.

    Raises:
        DataError: if an image shows a defect or is too small, or a category has too few good parts.
    """
    if not records:
        raise DataError("the data set has no good images; defects are laid on good images")
    for record in records:
        assert not record.gt_label, record.image_id
        if min(record.size_hw) < MIN_SIDE_PX:
            raise DataError(
                f"{record.image_id} is {record.size_hw[0]}x{record.size_hw[1]}; defects need at least {MIN_SIDE_PX} "
                "pixels on both sides; leave the image out"
            )
    names = sorted({record.category for record in records})
    return {name: divide([record for record in records if record.category == name], seed=seed) for name in names}


def good_files(category: str, sides: Sides) -> Iterator[GoodFile]:
    """Yields the good images of a category, under their own names where these differ."""
    for split, records in (("train", sides.train), ("test", sides.test)):
        taken = Counter(record.image_path.name for record in records)
        for record in records:
            name = record.image_path.name
            if taken[name] > 1:  # images of several folders under one name: the whole path tells them apart
                below = PurePosixPath(record.image_id.removeprefix(f"{record.dataset}/{category}/"))
                name = "_".join(below.parts)
            path = f"{category}/{split}/{NORMAL_DEFECT_TYPE}/{name}"
            yield GoodFile(path=path, source=record, group=record.group_id)


def defect_files(category: str, sides: Sides, *, defect_type: str, settings: SynthesisSettings) -> list[DefectFile]:
    """Returns the images of one type: even numbers for the training side, odd ones for the test."""
    made = []
    for number in range(settings.per_type):
        side: Split = "train" if number % 2 == 0 else "test"
        pool = sides.carriers if side == "train" else sides.test
        order = generator(settings.seed, "synthesis", category, defect_type, side).permutation(len(pool))
        start = number // 2
        turned = [pool[int(order[(start + step) % len(pool)])] for step in range(len(pool))]
        others = [record for record in turned[1:] if record.sha256 != turned[0].sha256]
        made.append(
            DefectFile(
                category=category,
                defect_type=defect_type,
                number=number,
                side=side,
                sources=tuple(turned),
                donors=tuple(others[-NUM_DONORS:]),
            )
        )
    return made
