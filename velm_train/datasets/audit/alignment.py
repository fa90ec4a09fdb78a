"""Pairs of thumbnails in, the second of each moved onto the first out: what cropping by a few percent shifts.

The move is a scale and a shift along each axis, found by Gauss-Newton steps with the first picture's own derivatives
(Baker and Matthews, "Lucas-Kanade 20 years on", section 3.2), after brightness and contrast have been taken out.
"""

import functools

import numpy as np
from jaxtyping import Float

Thumbnails = Float[np.ndarray, "pairs side side"]
"""Square grey pictures, 0..255 or standardised."""

Moves = Float[np.ndarray, "pairs 4"]
"""Shift and scale down, shift and scale across; coordinates run from -1 to 1. (0, 1, 0, 1) leaves a picture as is."""

BORDER_FRACTION = 1 / 16
"""Share of the side that is left out at each edge, where a crop has no counterpart."""

_MAX_SHIFT = 0.1
_MAX_SCALE_CHANGE = 0.1
_COARSE_STEPS = 6
_FINE_STEPS = 4
_RIDGE = 1e-3


def inner(side: int) -> slice:
    """Returns the rows (or columns) of a picture of this side that are compared."""
    border = max(1, round(side * BORDER_FRACTION))
    return slice(border, side - border)


@functools.cache
def smoothing(side: int, *, sigma: float) -> Float[np.ndarray, "side side"]:
    """Returns the matrix that smooths rows (from the left) or columns (transposed, from the right)."""
    steps = np.arange(side)
    weights = np.exp(-((steps[:, None] - steps[None]) ** 2) / (2 * sigma**2))
    normed: np.ndarray = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return normed


def smooth(pictures: Thumbnails, *, sigma: float) -> Thumbnails:
    """Returns the pictures under a Gaussian of this width in cells."""
    matrix = smoothing(pictures.shape[1], sigma=sigma)
    smoothed: np.ndarray = matrix @ pictures @ matrix.T
    return smoothed


def identity_moves(num_pairs: int) -> Moves:
    """Returns the moves that leave every picture as it is."""
    return np.tile(np.array([0.0, 1.0, 0.0, 1.0], dtype=np.float32), (num_pairs, 1))


def move(pictures: Thumbnails, moves: Moves) -> Thumbnails:
    """Returns the pictures, sampled where the moves point, linearly between cells; edges are repeated."""
    side = pictures.shape[1]
    down = _sampling(side, shift=moves[:, 0], scale=moves[:, 1])
    across = _sampling(side, shift=moves[:, 2], scale=moves[:, 3])
    moved: np.ndarray = down @ pictures @ across.transpose(0, 2, 1)
    return moved


def align_coarsely(first: Thumbnails, second: Thumbnails) -> Moves:
    """Finds about which moves lay each second picture onto the first, from pictures of half the size."""
    coarse = [_halved(smooth(pictures, sigma=1.6)) for pictures in (first, second)]
    return _search(coarse[0], coarse[1], identity_moves(len(first)), steps=_COARSE_STEPS)


def align_finely(first: Thumbnails, second: Thumbnails, coarse: Moves) -> Moves:
    """Returns better moves; where the coarse ones lead astray, as on a grid, those found from no move at all."""
    fine_first, fine_second = (smooth(pictures, sigma=0.8) for pictures in (first, second))
    found = _search(fine_first, fine_second, coarse, steps=_FINE_STEPS)
    near = _search(fine_first, fine_second, identity_moves(len(first)), steps=_FINE_STEPS)
    better = _misfit(fine_first, fine_second, near) < _misfit(fine_first, fine_second, found)
    return np.where(better[:, None], near, found)


def _halved(pictures: Thumbnails) -> Float[np.ndarray, "pairs half half"]:
    pairs, side, _ = pictures.shape
    halved: np.ndarray = pictures.reshape(pairs, side // 2, 2, side // 2, 2).mean(axis=(2, 4))
    return halved


def _coordinates(side: int) -> Float[np.ndarray, " side"]:
    return ((np.arange(side) + 0.5) / side * 2 - 1).astype(np.float32)


def _sampling(
    side: int, *, shift: Float[np.ndarray, " pairs"], scale: Float[np.ndarray, " pairs"]
) -> Float[np.ndarray, "pairs side side"]:
    """Returns one matrix a pair whose rows hold the two weights of linear interpolation."""
    position = (scale[:, None] * _coordinates(side) + shift[:, None] + 1) * side / 2 - 0.5
    position = position.clip(0, side - 1)
    left = np.minimum(position.astype(np.int64), side - 2)
    share = (position - left).astype(np.float32)
    matrix = np.zeros((len(shift), side, side), dtype=np.float32)
    pair, row = np.arange(len(shift))[:, None], np.arange(side)[None]
    matrix[pair, row, left] = 1 - share
    matrix[pair, row, left + 1] = share
    return matrix


def _flat(pictures: Thumbnails) -> Float[np.ndarray, "pairs cells"]:
    """Returns the compared cells, with mean 0 and mean square 1 in every picture that is not uniform."""
    part = inner(pictures.shape[1])
    cells = pictures[:, part, part].reshape(len(pictures), -1)
    cells = cells - cells.mean(axis=1, keepdims=True)
    size = np.sqrt((cells**2).mean(axis=1, keepdims=True))
    normed: np.ndarray = cells / np.maximum(size, 1e-6)
    return normed


def _misfit(first: Thumbnails, second: Thumbnails, moves: Moves) -> Float[np.ndarray, " pairs"]:
    misfit: np.ndarray = ((_flat(first) - _flat(move(second, moves))) ** 2).mean(axis=1)
    return misfit


def _derivatives(first: Thumbnails) -> Float[np.ndarray, "pairs 4 cells"]:
    """Returns how the compared cells change with each of the four numbers of a move."""
    side = first.shape[1]
    part = inner(side)
    places = _coordinates(side)
    scale = np.sqrt(first[:, part, part].var(axis=(1, 2), keepdims=True)).clip(1e-6)
    down = np.gradient(first, axis=1)[:, part, part] * (side / 2) / scale
    across = np.gradient(first, axis=2)[:, part, part] * (side / 2) / scale
    parts = (down, down * places[part][None, :, None], across, across * places[part][None, None, :])
    return np.stack([change.reshape(len(first), -1) for change in parts], axis=1)


def _search(first: Thumbnails, second: Thumbnails, start: Moves, *, steps: int) -> Moves:
    changes = _derivatives(first)
    products = (changes @ changes.transpose(0, 2, 1)).astype(np.float64)
    ridge = _RIDGE * np.einsum("nii->n", products)[:, None, None] + 1e-6
    inverse = np.linalg.inv(products + ridge * np.eye(4)).astype(np.float32)
    target = _flat(first)
    moves = start
    low = np.array([-_MAX_SHIFT, 1 - _MAX_SCALE_CHANGE] * 2, dtype=np.float32)
    high = np.array([_MAX_SHIFT, 1 + _MAX_SCALE_CHANGE] * 2, dtype=np.float32)
    for _ in range(steps):
        error = target - _flat(move(second, moves))
        step = (inverse @ (changes @ error[..., None]))[..., 0]
        moves = np.clip(moves + step, low, high)
    return moves
