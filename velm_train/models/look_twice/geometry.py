"""Evidence in, the index arithmetic that the adapter's parts share out: object tokens, views, bins."""

import torch
from jaxtyping import Bool, Float, Int

from velm_train.core.batch import VisionEvidence

MAX_FEATURE = 1e6
"""Features are clamped to this magnitude, so that their squares stay finite in float32."""

SCORE_FLOOR = 1e-6
"""Added to scores before a logarithm or a division; a tile without suspicion falls back to plain means."""


def bounded(features: Float[torch.Tensor, "*dims"]) -> Float[torch.Tensor, "*dims"]:
    """Returns features in float32 within +-1e6; a NaN stays one, it is not the adapter's to hide."""
    return features.float().clamp(-MAX_FEATURE, MAX_FEATURE)


def object_tokens(evidence: VisionEvidence) -> Bool[torch.Tensor, "T N"]:
    """Returns True where a token lies on its tile's grid and is not padding."""
    num_tokens = evidence.valid.shape[1]
    on_grid = torch.arange(num_tokens, device=evidence.valid.device) < evidence.grid_hw.prod(dim=1, keepdim=True)
    return evidence.valid & on_grid


def tiles_of_views(evidence: VisionEvidence) -> Bool[torch.Tensor, "I T"]:
    """Returns which tiles belong to which view."""
    num_views = int(evidence.view_index.max()) + 1
    views = torch.arange(num_views, device=evidence.view_index.device)
    return evidence.view_index == views[:, None]


def tokens_of_bins(grid_hw: Int[torch.Tensor, "T 2"], *, num_tokens: int, pool: int) -> Bool[torch.Tensor, "T bins N"]:
    """Returns which tokens lie in each of pool x pool bins that cover a tile's own grid, in row-major order.

    Bins are those of adaptive average pooling: bin i of n over s rows covers floor(i s / n) up to
    ceil((i + 1) s / n), so neighbours share a row where n does not divide s, and no bin is empty.

    Args:
        grid_hw: rows and columns of each tile, at least 1.
        num_tokens: padded token count N; tokens beyond a tile's grid lie in no bin.
        pool: bins along each side.
    """
    device = grid_hw.device
    index = torch.arange(num_tokens, device=device)
    rows, columns = grid_hw[:, :1], grid_hw[:, 1:]
    in_row = _in_bins(index // columns, rows, pool=pool)  # (T, pool, N)
    in_column = _in_bins(index % columns, columns, pool=pool)
    inside = in_row[:, :, None] & in_column[:, None, :]  # (T, pool, pool, N)
    return inside.flatten(1, 2) & (index < rows * columns)[:, None]


def _in_bins(
    place: Int[torch.Tensor, "T N"], size: Int[torch.Tensor, "T 1"], *, pool: int
) -> Bool[torch.Tensor, "T bins N"]:
    number = torch.arange(pool, device=place.device)
    start = (number * size) // pool  # (T, pool)
    stop = -((-(number + 1) * size) // pool)
    return (place[:, None, :] >= start[:, :, None]) & (place[:, None, :] < stop[:, :, None])
