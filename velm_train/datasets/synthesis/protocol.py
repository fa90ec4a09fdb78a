"""What every way of making a defect has in common: a clean picture in, the painted picture and its coverage out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from velm_train.core.shapes import BoolMap
from velm_train.datasets.defect_shapes import RGBFloat
from velm_train.datasets.defect_surface import Painted

Donor = Float32[np.ndarray, "_ _ 3"]
"""Another good picture of the category, 0..255, of any size."""


@runtime_checkable
class Operator(Protocol):
    """Makes one defect of random place, size and look."""

    def __call__(
        self, clean: RGBFloat, *, donors: Sequence[Donor], foreground: BoolMap, rng: np.random.Generator
    ) -> Painted:
        """Returns a new picture and how much of each pixel belongs to the defect; the clean one is left as it is.

        Args:
            clean: picture 0..255, at least 64 pixels high and wide.
            donors: other good pictures to take pixels from; may be empty.
            foreground: where the part lies; at least one pixel is set.
            rng: the only source of randomness.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Chain:
    """Several operators, one after the other, each on the picture that the one before left; masks are united."""

    operators: tuple[Operator, ...]

    def __call__(
        self, clean: RGBFloat, *, donors: Sequence[Donor], foreground: BoolMap, rng: np.random.Generator
    ) -> Painted:
        """Applies every operator; a pixel's coverage is the largest that any of them gives it."""
        image, coverage = clean, np.zeros(clean.shape[:2], dtype=np.float32)
        for operator in self.operators:
            painted = operator(image, donors=donors, foreground=foreground, rng=rng)
            image, coverage = painted.image, np.maximum(coverage, painted.coverage)
        return Painted(image=image, coverage=coverage)


def chain(*operators: Operator) -> Operator:
    """Returns one operator that applies all of them in order; a single one is returned as it is."""
    assert operators, "a chain needs at least one operator"
    return operators[0] if len(operators) == 1 else Chain(operators=operators)
