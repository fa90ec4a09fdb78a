"""Thumbnails of all images in, pairs that show one picture out, whether copied, re-encoded, resized, cropped or turned.

    thumbnails ──► candidates (every pair, whole picture) ──► align ──► compare what the category does not explain

Parts under one camera look alike, so the picture as a whole proves nothing. What is compared is the fine structure
left after the category's mean and its main ways to vary (position, light) are taken off: scratches, grain and dust
that two files share only if they show the same shot.

The thresholds were chosen on generated parts (experiments/benchmarks/near_duplicates.py) and on the embedded textures,
test side included, where shots of different pieces of one photograph must stay apart; public benchmarks had no part in
it. Parts whose differences are below the noise of strong compression, and copies both strongly altered and of such
parts, are missed.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from velm_train.core.progress import Advance
from velm_train.core.seeding import generator
from velm_train.datasets.audit.alignment import Thumbnails, align_coarsely, align_finely, inner, move, smooth
from velm_train.datasets.audit.candidates import Candidates, find_candidates, orient

TRAIN, TEST, OTHER = 0, 1, 2
"""Sides: known before the test, tested on, and data from elsewhere, which counts as known."""

MIN_CORRELATION = 0.5
"""Of the fine structure of two files of one picture, in a category whose parts have nothing in common."""

MAX_NEEDED_CORRELATION = 0.85
"""What is asked in categories whose parts correlate by nature, and where too few images are there to tell."""

SIGMAS = 10.0
"""Spreads of the correlation of different parts that a copy has to exceed."""

MIN_UNLIKELY_CORRELATION = 0.7
"""What is asked of pairs that copies rarely are: of two categories, or turned against each other."""

_WANTED = np.array([[True, True, False], [True, True, True], [False, False, False]])
_NUM_NEAREST = 3
_NUM_SAMPLED_PAIRS = 64
_MIN_IMAGES = 8
_MAX_MODES = 32
_IMAGES_PER_MODE = 10
_ALIKE = 0.97
"""Correlation of two pictures, where they lie, beyond which a category is learned from one of them only."""

_ALIKE_AMONG_FEW = 0.9
_FEW = 100
"""Images below which two copies weigh enough to make a direction of their own."""

_MAX_LEARNED_FROM = 320
_MIN_DETAIL = 0.15
"""Grey levels of fine structure below which a thumbnail shows nothing to compare."""

_PROMISING = 0.15
"""Correlation under a rough alignment below which the exact one is not sought."""

_OUTLIER = 2.5
"""Cells beyond this multiple of the median are cut down, so that one hole or stain cannot stand for a whole picture."""

_OWN_SHARE = 0.6
"""Of the typical unexplained structure, what is a part's own. Of a picture that is r times as strange, the rest may be
a place or light that another part shares, which makes them correlate by up to 1 - (share / r)^2."""

_MOST_NEEDED = 0.95
_CHUNK = 64
_FINE_SIGMA = 0.8
_COARSE_SIGMA = 2.5


@dataclass(frozen=True, kw_only=True, slots=True)
class NearPair:
    """Two images of one picture, as places in the list of images.

    Attributes:
        correlation: of their fine structure, 0..1.
        turned: True if one is mirrored or turned by quarters against the other.
    """

    first: int
    second: int
    correlation: float
    turned: bool


def find_near_duplicates(
    thumbnails: UInt8[np.ndarray, "images side side"],
    *,
    categories: Sequence[str],
    sides: Sequence[int],
    advance: Advance,
) -> list[NearPair]:
    """Finds pairs inside and across TRAIN and TEST, and pairs of TEST and OTHER.

    Args:
        thumbnails: grey, square.
        categories: of every image; those of OTHER images are not used.
        sides: TRAIN, TEST or OTHER for every image.
        advance: receives the number of images whose neighbours are known.

    Returns:
        Each pair once, `first` before `second`, sorted.
    """
    side_numbers = np.array(sides, dtype=np.int64)
    names = sorted({name for name, side in zip(categories, sides, strict=True) if side != OTHER})
    numbers = np.array(
        [-1 if side == OTHER else names.index(name) for name, side in zip(categories, sides, strict=True)],
        dtype=np.int64,
    )
    experts: dict[int, _Category] = {}
    found: dict[tuple[int, int], NearPair] = {}
    for candidates in find_candidates(
        thumbnails, categories=numbers, wanted=_WANTED, sides=side_numbers, num_nearest=_NUM_NEAREST
    ):
        advance(candidates.num_asked)
        if len(candidates.first) == 0:
            continue
        number = int(numbers[candidates.first[0]])
        if number not in experts:
            experts[number] = _Category(thumbnails, np.flatnonzero(numbers == number), number)
        for pair in experts[number].judge(thumbnails, candidates):
            key = (pair.first, pair.second)
            if key not in found or found[key].correlation < pair.correlation:
                found[key] = pair
    return [found[key] for key in sorted(found)]


class _Category:
    """What the images of one category have in common, and how much two different ones may still correlate."""

    def __init__(
        self, thumbnails: UInt8[np.ndarray, "images side side"], members: Int[np.ndarray, " members"], number: int
    ) -> None:
        self._members = members
        rng = generator(0, "audit", "category", str(number))
        learned = _chunks(rng.permutation(members)[:_MAX_LEARNED_FROM])
        self._common = _common_structure(
            np.concatenate([_structure(thumbnails[part].astype(np.float32)) for part in learned])
        )
        self._typical = float(
            np.median(np.concatenate([self._strangeness(thumbnails[part].astype(np.float32)) for part in learned]))
        )
        self._needed = MAX_NEEDED_CORRELATION
        if len(members) >= _MIN_IMAGES:
            pairs = rng.integers(len(members), size=(_NUM_SAMPLED_PAIRS, 2))
            pairs = members[pairs[pairs[:, 0] != pairs[:, 1]]]
            values = self._correlations(
                thumbnails[pairs[:, 0]].astype(np.float32), thumbnails[pairs[:, 1]].astype(np.float32)
            )
            spread = 1.4826 * float(np.median(np.abs(values - np.median(values))))
            self._needed = float(np.clip(SIGMAS * spread, MIN_CORRELATION, MAX_NEEDED_CORRELATION))

    def judge(self, thumbnails: UInt8[np.ndarray, "images side side"], candidates: Candidates) -> Iterator[NearPair]:
        """Yields the candidates that are one picture; chunks are looked at in threads, which numpy lets run freely."""
        chunks = _chunks(np.arange(len(candidates.first)))
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for pairs in pool.map(lambda chunk: self._judge_chunk(thumbnails, candidates, chunk), chunks):
                yield from pairs

    def _judge_chunk(
        self,
        thumbnails: UInt8[np.ndarray, "images side side"],
        candidates: Candidates,
        chunk: Int[np.ndarray, " part"],
    ) -> list[NearPair]:
        first, second = candidates.first[chunk], candidates.second[chunk]
        orientation = candidates.orientation[chunk]
        one = thumbnails[first].astype(np.float32)
        other = thumbnails[second].astype(np.float32)
        for turn in np.unique(orientation):
            other[orientation == turn] = orient(other[orientation == turn], int(turn))
        values = self._correlations(one, other)
        unlikely = (orientation != 0) | ~np.isin(second, self._members)
        needed = np.where(unlikely, max(self._needed, MIN_UNLIKELY_CORRELATION), self._needed)
        likely = np.flatnonzero(values >= needed)
        if len(likely) == 0:
            return []
        strange = np.minimum(self._strangeness(one[likely]), self._strangeness(other[likely]))
        excess = 1 - (_OWN_SHARE * self._typical / np.maximum(strange, 1e-6)) ** 2
        return [
            NearPair(
                first=min(int(first[place]), int(second[place])),
                second=max(int(first[place]), int(second[place])),
                correlation=float(values[place]),
                turned=bool(orientation[place]),
            )
            for place in likely[values[likely] >= np.minimum(excess, _MOST_NEEDED)]
        ]

    def _correlations(self, one: Thumbnails, other: Thumbnails) -> Float[np.ndarray, " pairs"]:
        """Returns the correlation of what the category does not explain; 0 where there is nothing to compare.

        The picture that fits its category better is the one that the other is moved onto: a cropped picture would
        leave the category's own outlines unexplained.
        """
        structures = [_structure(pictures) for pictures in (one, other)]
        rests = [self._rest(structure) for structure in structures]
        shares = [
            _size(rest) / np.maximum(_size(structure), 1e-6) for rest, structure in zip(rests, structures, strict=True)
        ]
        swap = shares[1] < shares[0]
        target, moving = (np.where(swap[:, None, None], a, b) for a, b in ((other, one), (one, other)))
        rest = np.where(swap[:, None], rests[1], rests[0])
        coarse = align_coarsely(target, moving)
        values: np.ndarray = np.maximum(
            _correlation(*rests), _correlation(rest, self._unexplained(move(moving, coarse)))
        )
        hopeful = np.flatnonzero(values >= _PROMISING)
        if len(hopeful) == 0:
            return values
        fine = align_finely(target[hopeful], moving[hopeful], coarse[hopeful])
        values[hopeful] = _correlation(rest[hopeful], self._unexplained(move(moving[hopeful], fine)))
        return values

    def _strangeness(self, pictures: Thumbnails) -> Float[np.ndarray, " pairs"]:
        """Returns how much of each picture the category does not explain, as a share of the picture's contrast."""
        contrast = pictures.std(axis=(1, 2))
        shares: np.ndarray = _size(self._unexplained(pictures)) / np.maximum(contrast, 1.0)
        return shares

    def _unexplained(self, pictures: Thumbnails) -> Float[np.ndarray, "pairs cells"]:
        return self._rest(_structure(pictures))

    def _rest(self, structure: Float[np.ndarray, "pairs cells"]) -> Float[np.ndarray, "pairs cells"]:
        """Returns the structure without what the category has in common, its strongest cells cut down."""
        rest = structure - (structure @ self._common) @ self._common.T
        limit = _OUTLIER * np.median(np.abs(rest[:, ::5]), axis=1, keepdims=True)  # a fifth of the cells tells it
        clipped: np.ndarray = np.clip(rest, -limit, limit)
        return clipped


def _chunks(places: Int[np.ndarray, " places"]) -> list[Int[np.ndarray, " part"]]:
    return [places[start : start + _CHUNK] for start in range(0, len(places), _CHUNK)]


def _correlation(
    one: Float[np.ndarray, "pairs cells"], other: Float[np.ndarray, "pairs cells"]
) -> Float[np.ndarray, " pairs"]:
    """Returns the cosine of each pair; 0 where one of them holds too little to compare."""
    sizes = _size(one), _size(other)
    cosine = (one * other).mean(axis=1) / np.maximum(sizes[0] * sizes[1], 1e-6)
    return np.where(np.minimum(*sizes) < _MIN_DETAIL, 0.0, cosine).astype(np.float32)


def _size(structure: Float[np.ndarray, "pairs cells"]) -> Float[np.ndarray, " pairs"]:
    sizes: np.ndarray = np.sqrt((structure**2).mean(axis=1))
    return sizes


def _structure(pictures: Thumbnails) -> Float[np.ndarray, "pairs cells"]:
    """Returns the band of fine structure that survives strong compression, inside the border."""
    band = smooth(pictures, sigma=_FINE_SIGMA) - smooth(pictures, sigma=_COARSE_SIGMA)
    part = inner(pictures.shape[1])
    cells = band[:, part, part].reshape(len(pictures), -1)
    centred: np.ndarray = cells - cells.mean(axis=1, keepdims=True)
    return centred


def _common_structure(structure: Float[np.ndarray, "pairs cells"]) -> Float[np.ndarray, "cells modes"]:
    """Returns orthonormal directions: the median picture, and the main ways in which the pictures differ from it.

    There is one direction for every ten pictures. Of pictures that are alike one counts: copies would make a direction
    of their own and no longer be seen.
    """
    median = np.median(structure, axis=0)
    centred = structure - median
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
    alike = np.tril(unit @ unit.T, k=-1) > (_ALIKE_AMONG_FEW if len(structure) < _FEW else _ALIKE)
    distinct = centred[~alike.any(axis=1)].astype(np.float64)
    num_modes = min(_MAX_MODES, len(structure) // _IMAGES_PER_MODE, len(distinct) // 3)
    _, vectors = np.linalg.eigh(distinct @ distinct.T)
    modes = vectors[:, len(distinct) - num_modes :].T @ distinct
    directions, _ = np.linalg.qr(np.vstack([median, modes]).T.astype(np.float64))
    return directions.astype(np.float32)
