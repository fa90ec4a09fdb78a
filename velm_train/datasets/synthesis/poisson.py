"""The discrete Poisson equation: a picture, a region of any shape and gradients in, the picture filled in out."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import binary_dilation, label
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import splu

from velm_train.core.shapes import BoolMap
from velm_train.datasets.defect_shapes import RGBFloat

MAX_RADIUS_PX = 200.0
"""Of a region that is filled in a second or two; on very large pictures regions are relatively smaller."""

Pairs = tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]
"""Flat indices of pixels and of their neighbours."""


def solve_poisson(picture: RGBFloat, *, inside: BoolMap, known: BoolMap, guides: Sequence[RGBFloat]) -> RGBFloat:
    """Replaces a region by values whose gradients follow the guides and that meet the known pixels around it.

    For every pixel p inside: the sum over its neighbours q of (f_p - f_q) is the sum of v_pq, where q runs over those
    of the four neighbours that are inside or known, f_q of a known pixel is the picture's, and v_pq is the guides'
    difference of largest magnitude, by channel (Perez et al. 2003, "Poisson image editing", equations 7 and 12).
    Neighbours that are neither inside nor known, or lie beyond the picture's edge, do not count.

    Args:
        picture: values outside the region.
        inside: the region; parts of it that touch no known pixel keep the picture's values.
        known: pixels whose values the solution has to meet; disjoint from `inside`.
        guides: pictures whose gradients are taken over; none for the smoothest surface.

    Returns:
        The picture with the region replaced; not clipped to 0..255.
    """
    assert not (inside & known).any()
    region = _touching(inside, known)
    solved = picture.copy()
    num_pixels = int(np.count_nonzero(region))
    if num_pixels == 0:
        return solved
    unknown = np.full(region.size, -1, dtype=np.int64)
    unknown[region.ravel()] = np.arange(num_pixels)
    values = picture.reshape(-1, 3).astype(np.float64)
    guide_values = [guide.reshape(-1, 3).astype(np.float64) for guide in guides]
    degree = np.zeros(num_pixels)
    right = np.zeros((num_pixels, 3))
    rows, columns = [], []
    for here, there in _neighbours(region, counted=region | known):
        p, q = unknown[here], unknown[there]
        degree[p] += 1.0
        right[p] += _strongest([guide[here] - guide[there] for guide in guide_values], like=right[p])
        right[p] += np.where((q < 0)[:, None], values[there], 0.0)
        rows.append(p[q >= 0])
        columns.append(q[q >= 0])
    row, column = np.concatenate(rows), np.concatenate(columns)
    diagonal = np.arange(num_pixels)
    entries = np.concatenate([degree, np.full(len(row), -1.0)])
    places = (np.concatenate([diagonal, row]), np.concatenate([diagonal, column]))
    matrix = csc_matrix((entries, places), shape=(num_pixels, num_pixels))
    factors = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    solved[region] = factors.solve(right).astype(np.float32)
    return solved


def _touching(inside: BoolMap, known: BoolMap) -> BoolMap:
    """Returns the connected parts of the region that have a known neighbour; without one the equation is singular."""
    parts, _ = label(inside)
    touched = np.unique(parts[inside & binary_dilation(known)])
    touching: BoolMap = np.isin(parts, touched[touched > 0])
    return touching


def _neighbours(region: BoolMap, *, counted: BoolMap) -> Iterator[Pairs]:
    """Yields, for each of the four directions, the region's pixels that have a counted neighbour there."""
    index = np.arange(region.size).reshape(region.shape)
    head, tail = slice(None, -1), slice(1, None)
    every = slice(None)
    for here, there in (
        ((head, every), (tail, every)),
        ((tail, every), (head, every)),
        ((every, head), (every, tail)),
        ((every, tail), (every, head)),
    ):
        counts = region[here] & counted[there]
        yield index[here][counts], index[there][counts]


def _strongest(
    differences: list[Float[np.ndarray, "pairs 3"]], *, like: Float[np.ndarray, "pairs 3"]
) -> Float[np.ndarray, "pairs 3"]:
    """Returns, by pixel and channel, the difference of largest magnitude; 0 if there is none."""
    strongest = np.zeros_like(like)
    for difference in differences:
        strongest = np.where(np.abs(difference) > np.abs(strongest), difference, strongest)
    return strongest
