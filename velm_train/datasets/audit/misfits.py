"""Mean colours of all images in, the images that lie far from their own category and near another's out."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

MIN_IMAGES = 5
"""Images a category needs before one can be called foreign to it."""

FAR = 3.0
"""Distance to the own category's centre, in its typical distances, from which an image is foreign."""

NEAR = 1.5
"""Distance to another category's centre, in its typical distances, up to which an image fits there."""

CLOSER = 0.5
"""Share of its distance to the own centre at which the other centre has to lie."""

_MIN_SPREAD = 2.0
"""Typical distance at least, grey levels, so that a category of one colour does not call every image foreign."""


def find_misfits(colours: UInt8[np.ndarray, "images 4 4 3"], *, categories: Sequence[str]) -> dict[int, str]:
    """Compares the colours of a coarse grid with every category's median colours.

    The median stays where it is while fewer than half of a category's images are foreign, however like each other
    these are: that is how 22 metal nuts among 267 pills are seen.

    Args:
        colours: mean colour of each cell of a grid.
        categories: of every image.

    Returns:
        Place of each misfit -> the category that it looks like.
    """
    values = colours.reshape(len(colours), -1).astype(np.float64)
    places: dict[str, list[int]] = defaultdict(list)
    for place, category in enumerate(categories):
        places[category].append(place)
    names = sorted(name for name, members in places.items() if len(members) >= MIN_IMAGES)
    centres = {name: np.median(values[places[name]], axis=0) for name in names}
    spreads = {
        name: max(_MIN_SPREAD, float(np.median(_distance(values[places[name]], centres[name])))) for name in names
    }
    found: dict[int, str] = {}
    for name in names:
        own = _distance(values[places[name]], centres[name])
        for place, distance in zip(places[name], own, strict=True):
            if distance <= FAR * spreads[name]:
                continue
            others = {other: float(_distance(values[[place]], centres[other])[0]) for other in names if other != name}
            fitting = [other for other in others if others[other] <= min(NEAR * spreads[other], CLOSER * distance)]
            if fitting:
                found[place] = min(fitting, key=lambda other: others[other] / spreads[other])
    return found


def _distance(
    values: Float[np.ndarray, "images numbers"], centre: Float[np.ndarray, " numbers"]
) -> Float[np.ndarray, " images"]:
    """Returns the root mean square difference in grey levels."""
    difference: Float[np.ndarray, " images"] = np.sqrt(((values - centre) ** 2).mean(axis=1))
    return difference
