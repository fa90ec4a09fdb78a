"""Patch features go in; the rows of a small subset that covers them all comes out (greedy k-centre)."""

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from velm_train.core.seeding import generator

PROJECTED_DIM = 64
"""Width of the random projection in which the subset is searched."""

_NUM_CANDIDATES = 2048
_MAX_BATCH = 256
_BLOCK_ROWS = 1024
"""Rows brought up to date at a time: their distances to a batch stay in the cache, and memory does not grow."""


def projection_matrix(num_channels: int, *, seed: int) -> Float[Tensor, "C D"]:
    """Returns a Gaussian random projection that keeps distances on average (Johnson and Lindenstrauss 1984).

    Returns:
        float32 (C, 64), or the identity where there are no more than 64 channels to begin with.
    """
    if num_channels <= PROJECTED_DIM:
        return torch.eye(num_channels)
    values = generator(seed, "coreset", "projection").standard_normal((num_channels, PROJECTED_DIM))
    return torch.from_numpy((values / np.sqrt(PROJECTED_DIM)).astype(np.float32))


def project(
    blocks: Iterable[Float[Tensor, "_ C"]], matrix: Float[Tensor, "C D"], *, num_rows: int
) -> Float[Tensor, "P D"]:
    """Returns the projection of features that come block by block, `num_rows` of them in all."""
    points = torch.empty(num_rows, matrix.shape[1], device=matrix.device)
    row = 0
    for block in blocks:
        points[row : row + len(block)] = block @ matrix
        row += len(block)
    assert row == num_rows, (row, num_rows)
    return points


def greedy_coreset(points: Float[Tensor, "P D"], *, num_selected: int, seed: int) -> Int[Tensor, " S"]:
    """Selects rows greedily, each the farthest from all selected before (Roth et al. 2022, algorithm 1).

    The selection is the sequential one, only computed in batches. Distances to the selected set can only shrink, so
    stale distances are upper bounds: among the few thousand rows with the largest bounds, rows are selected one by one
    for as long as the best of them is at least as far as the largest bound outside; only then is every row's distance
    brought up to date, with one matrix product for all rows selected since.

    Time grows with P times `num_selected`; memory is two copies of the points and a few megabytes.

    Args:
        points: projected features.
        num_selected: 1 to P; P selects all rows in their order.
        seed: of the first row.

    Returns:
        Distinct row numbers in the order of selection, on the CPU.
    """
    num_points = points.shape[0]
    assert 1 <= num_selected <= num_points, (num_selected, num_points)
    if num_selected == num_points:
        return torch.arange(num_points)
    points = points - points.mean(dim=0)  # small norms keep the matrix product precise
    squared_norms = points.square().sum(dim=1)
    bounds = torch.full((num_points,), torch.inf, device=points.device)
    selected = [int(generator(seed, "coreset", "first").integers(num_points))]
    fresh = selected[:]
    while len(selected) < num_selected:
        _lower(bounds, points, squared_norms, fresh=torch.tensor(fresh, device=points.device))
        bounds[torch.tensor(selected, device=points.device)] = -1  # never select a row twice
        fresh = _select_batch(points, bounds, limit=min(_MAX_BATCH, num_selected - len(selected)))
        selected.extend(fresh)
    return torch.tensor(selected)


def _lower(
    bounds: Float[Tensor, " P"], points: Float[Tensor, "P D"], squared_norms: Float[Tensor, " P"], *, fresh: Tensor
) -> None:
    """Brings the squared distance of every row to the selected ones up to date, in place."""
    batch = points[fresh]  # (S_new, D)
    batch_norms = batch.square().sum(dim=1)
    for start in range(0, len(points), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        squared = squared_norms[block, None] + batch_norms  # (rows, S_new)
        squared.sub_(points[block] @ batch.T, alpha=2)
        torch.minimum(bounds[block], squared.amin(dim=1).clamp_min(0), out=bounds[block])


def _select_batch(points: Float[Tensor, "P D"], bounds: Float[Tensor, " P"], *, limit: int) -> list[int]:
    """Selects up to `limit` rows that the sequential greedy rule would select next; `bounds` is up to date."""
    num_candidates = min(_NUM_CANDIDATES, points.shape[0] - 1)
    values, rows = torch.topk(bounds, num_candidates + 1)
    outside = float(values[-1])  # no row outside the candidates is farther than this
    distances, rows = values[:-1].clone(), rows[:-1]
    candidates = points[rows]
    chosen: list[int] = []
    while len(chosen) < limit:
        best = int(distances.argmax())
        if distances[best] < outside or distances[best] < 0:
            break
        chosen.append(int(rows[best]))
        distances = torch.minimum(distances, (candidates - candidates[best]).square().sum(dim=1))
        distances[best] = -1
    return chosen
