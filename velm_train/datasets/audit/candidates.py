"""Thumbnails in, the few pairs that may show one picture out: a search over all pairs in all eight orientations.

A thumbnail becomes the low coefficients of its cosine transform, seen as a difference from its category's mean and
weighed so that what differs between parts counts and what cropping changes does not: aligned parts of one kind are far
from each other, two files of one picture close. Mirrored and turned pictures need no pass of their own over the
pixels: a mirror image changes the sign of the odd coefficients, a transposed one swaps rows and columns.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from jaxtyping import Bool, Float, Int, Shaped, UInt8

from velm_train.core.seeding import generator
from velm_train.datasets.audit.alignment import move

ORIENTATIONS = 8
"""Bit 0 mirrors left and right, bit 1 mirrors top and bottom, bit 2 transposes first."""

NUM_FREQUENCIES = 12
"""Cosine frequencies along each axis, the constant one included; 12 keep a shift of 3 % small."""

MIN_SIMILARITY = 0.5
"""Cosine below which two descriptors are not looked at more closely."""

_BLOCK = 512
_NUM_CROPPED = 48
_CROP = 0.03
_NOISE = 0.01
"""Variance of other changes, such as compression, as a share of the mean variance."""

Coefficients = Float[np.ndarray, "images frequencies frequencies"]
Descriptors = Float[np.ndarray, "images numbers"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """Pairs to look at more closely, as places in the list of images.

    Attributes:
        num_asked: images whose neighbours these are.
        orientation: what has to be done to the second picture of each pair.
    """

    num_asked: int
    first: Int[np.ndarray, " pairs"]
    second: Int[np.ndarray, " pairs"]
    orientation: Int[np.ndarray, " pairs"]


def orient(pictures: Shaped[np.ndarray, "pairs side side"], orientation: int) -> Shaped[np.ndarray, "pairs side side"]:
    """Returns the pictures mirrored and turned as `ORIENTATIONS` says."""
    turned = pictures.transpose(0, 2, 1) if orientation & 4 else pictures
    turned = turned[:, ::-1] if orientation & 2 else turned
    return turned[:, :, ::-1] if orientation & 1 else turned


def coefficients(thumbnails: Shaped[np.ndarray, "images side side"]) -> Coefficients:
    """Returns the low cosine coefficients of every thumbnail, brought to one contrast; 0 for a uniform one."""
    side = thumbnails.shape[1]
    places = (np.arange(side) + 0.5) * np.pi / side
    cosines = np.cos(np.arange(NUM_FREQUENCIES)[:, None] * places).astype(np.float32) / side
    found = np.empty((len(thumbnails), NUM_FREQUENCIES, NUM_FREQUENCIES), dtype=np.float32)
    for start in range(0, len(thumbnails), _BLOCK):
        block = thumbnails[start : start + _BLOCK].astype(np.float32)
        contrast = block.std(axis=(1, 2), keepdims=True)
        found[start : start + _BLOCK] = cosines @ block @ cosines.T / np.maximum(contrast, 1.0)
    found[:, 0, 0] = 0.0
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class _Weighing:
    """What turns the coefficients of one category into descriptors whose cosine tells copies from other parts."""

    mean: Float[np.ndarray, " numbers"]
    matrix: Float[np.ndarray, "numbers numbers"]

    def __call__(self, numbers: Descriptors) -> Descriptors:
        weighed = (numbers - self.mean) @ self.matrix
        unit: np.ndarray = weighed / np.maximum(np.linalg.norm(weighed, axis=1, keepdims=True), 1e-9)
        return unit


def _weighing(thumbnails: UInt8[np.ndarray, "images side side"], numbers: Descriptors) -> _Weighing:
    """Learns from the images of one category how they differ, and how each differs from crops of itself.

    With r the ratio of both variances along a direction, two copies correlate by c = r / (1 + r) there; directions
    are brought to equal spread and weighed by c / (1 - c^2), as the likelihood ratio of "copy" against "other part" of
    two normal variables has it.
    """
    mean = numbers.mean(axis=0)
    between = _spread(numbers - mean)
    places = np.linspace(0, len(thumbnails) - 1, num=min(len(thumbnails), _NUM_CROPPED)).round().astype(np.int64)
    shown = thumbnails[places].astype(np.float32)
    changes = []
    for number in range(2):
        shift = generator(0, "audit", "crops", str(number)).uniform(-1, 1, (len(shown), 2)) * _CROP
        scale = np.full(len(shown), 1 - _CROP)
        moves = np.stack([shift[:, 0], scale, shift[:, 1], scale], axis=1).astype(np.float32)
        changes.append(coefficients(move(shown, moves)).reshape(len(shown), -1) - numbers[places])
    within = _spread(np.concatenate(changes))
    common = np.trace(between) / len(between) + 1e-12
    between += common * 4.0 / len(numbers) * np.eye(len(between))
    within += common * _NOISE * np.eye(len(within))
    values, vectors = scipy.linalg.eigh(between, within)
    correlation = values / (1 + values)
    weights = np.sqrt(correlation / (1 - correlation**2) / (1 + values))
    return _Weighing(mean=mean, matrix=(vectors * weights).astype(np.float32))


def _spread(differences: Descriptors) -> Float[np.ndarray, "numbers numbers"]:
    exact = differences.astype(np.float64)
    return exact.T @ exact / len(exact)


def find_candidates(
    thumbnails: UInt8[np.ndarray, "images side side"],
    *,
    categories: Int[np.ndarray, " images"],
    wanted: Bool[np.ndarray, "sides sides"],
    sides: Int[np.ndarray, " images"],
    num_nearest: int,
) -> Iterator[Candidates]:
    """Yields, category by category, each image's nearest neighbours on every side that it may not share pixels with.

    Args:
        thumbnails: grey, square.
        categories: number of each image's category; -1 for an image that asks for no neighbours of its own.
        wanted: whether a pair of an image of the row's side and one of the column's side is of interest.
        sides: number of each image's side.
        num_nearest: neighbours of every image on each side.
    """
    described = coefficients(thumbnails)
    numbers = described.reshape(len(described), -1)
    turned = [_turned(described, orientation) for orientation in range(ORIENTATIONS)]
    for category in range(int(categories.max(initial=-1)) + 1):
        members = np.flatnonzero(categories == category)
        weigh = _weighing(thumbnails[members], numbers[members])
        galleries = [weigh(descriptors) for descriptors in turned]
        for start in range(0, len(members), _BLOCK):
            block = members[start : start + _BLOCK]
            yield _nearest(weigh(numbers[block]), galleries, block, wanted[sides[block]], sides, num_nearest)


def _turned(described: Coefficients, orientation: int) -> Descriptors:
    found = described.transpose(0, 2, 1) if orientation & 4 else described
    sign = (-1.0) ** np.arange(NUM_FREQUENCIES, dtype=np.float32)
    rows = sign if orientation & 2 else np.ones_like(sign)
    columns = sign if orientation & 1 else np.ones_like(sign)
    descriptors: np.ndarray = (found * rows[:, None] * columns).reshape(len(found), -1)
    return descriptors


def _nearest(
    queries: Float[np.ndarray, "queries numbers"],
    galleries: list[Descriptors],
    block: Int[np.ndarray, " queries"],
    wanted: Bool[np.ndarray, "queries sides"],
    sides: Int[np.ndarray, " images"],
    num_nearest: int,
) -> Candidates:
    similarity = queries @ galleries[0].T
    orientation = np.zeros(similarity.shape, dtype=np.int8)
    for number, gallery in enumerate(galleries[1:], start=1):
        other = queries @ gallery.T
        better = other > similarity
        similarity[better] = other[better]
        orientation[better] = number
    similarity[np.arange(len(block)), block] = -1.0
    rows, columns = [], []
    for side in range(wanted.shape[1]):
        gallery_places = np.flatnonzero(sides == side)
        asking = np.flatnonzero(wanted[:, side])
        if len(gallery_places) == 0 or len(asking) == 0:
            continue
        values = similarity[np.ix_(asking, gallery_places)]
        count = min(num_nearest, len(gallery_places))
        best = np.argpartition(-values, count - 1, axis=1)[:, :count]
        row, column = np.nonzero(np.take_along_axis(values, best, axis=1) >= MIN_SIMILARITY)
        rows.append(asking[row])
        columns.append(gallery_places[best[row, column]])
    row_places = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)
    column_places = np.concatenate(columns) if columns else np.zeros(0, dtype=np.int64)
    return Candidates(
        num_asked=len(block),
        first=block[row_places],
        second=column_places,
        orientation=orientation[row_places, column_places].astype(np.int64),
    )
