"""Evidence in, the index arithmetic that the adapter's parts share out: object tokens, views, places, bins."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, cast

import torch
from jaxtyping import Bool, Float, Int, Shaped

from velm_train.core.batch import VisionEvidence

MAX_FEATURE = 1e6
"""Features are clamped to this magnitude, so that their squares stay finite in float32."""

SCORE_FLOOR = 1e-6
"""Added to scores before a logarithm or a division; a view without suspicion falls back to plain means."""

TileLayout = Literal["one_tile_per_view", "one_view"]
"""Every view has one tile, which shows all of it; or all tiles are of one view."""

_promised_layout: ContextVar[TileLayout | None] = ContextVar("promised_layout", default=None)

_MIN_OVERLAP = 1e-3
"""A token lies in a bin if more than this share of the shorter of the two does; less is rounding."""


@contextmanager
def promised_layout(layout: TileLayout) -> Iterator[None]:
    """Lets the functions below take a layout for granted inside a `with` block instead of reading it from the tensors.

    Shapes then follow from shapes alone, never from values, which is what an exported graph needs.
    """
    token = _promised_layout.set(layout)
    try:
        yield
    finally:
        _promised_layout.reset(token)


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
    num_tiles, device = evidence.view_index.shape[0], evidence.view_index.device
    if _promised_layout.get() == "one_tile_per_view":
        return torch.eye(num_tiles, dtype=torch.bool, device=device)
    if _promised_layout.get() == "one_view":
        return torch.ones(1, num_tiles, dtype=torch.bool, device=device)
    num_views = int(evidence.view_index.max()) + 1
    views = torch.arange(num_views, device=evidence.view_index.device)
    return evidence.view_index == views[:, None]


def global_tiles(evidence: VisionEvidence) -> Int[torch.Tensor, " I"]:
    """Returns the tile of each view that shows all of it."""
    of_view = tiles_of_views(evidence) & evidence.is_global  # (I, T)
    if _promised_layout.get() is None:
        assert bool((of_view.sum(dim=1) == 1).all()), "every view has exactly one tile that shows all of it"
    return of_view.int().argmax(dim=1)


def by_view(values: Shaped[torch.Tensor, "T N *dims"], evidence: VisionEvidence) -> Shaped[torch.Tensor, "I V *dims"]:
    """Lays the tokens of all tiles of a view end to end; what is missing to the largest view is 0 or False.

    With one tile per view, V = N and the result is `values` itself.

    Args:
        values: one entry per token.
        evidence: says which tiles belong to which view.
    """
    if _promised_layout.get() == "one_tile_per_view":
        return values
    if _promised_layout.get() == "one_view":
        return values.flatten(0, 1)[None]
    of_view = tiles_of_views(evidence)  # (I, T)
    counts = of_view.sum(dim=1)
    num_slots = int(counts.max())
    if num_slots == 1:
        return values
    # Tiles of a view first, in their order; slots beyond its number of tiles are blanked.
    slots = of_view.int().argsort(dim=1, descending=True, stable=True)[:, :num_slots]  # (I, slots)
    filled = torch.arange(num_slots, device=counts.device) < counts[:, None]
    packed = values[slots]  # (I, slots, N, *dims)
    filled = filled.reshape(*filled.shape, *[1] * (packed.ndim - 2))
    return torch.where(filled, packed, torch.zeros_like(packed)).flatten(1, 2)


def token_boxes(
    grid_hw: Int[torch.Tensor, "T 2"], *, num_tokens: int | torch.SymInt, tile_xyxy: Float[torch.Tensor, "T 4"] | None
) -> Float[torch.Tensor, "T N 4"]:
    """Returns the box x0, y0, x1, y1 of every token in fractions of its view; undefined beyond a tile's grid.

    Args:
        grid_hw: rows and columns of each tile, at least 1.
        num_tokens: padded token count N.
        tile_xyxy: part of the view that each tile shows; None if every tile shows all of it.
    """
    index = torch.arange(cast("int", num_tokens), device=grid_hw.device)
    rows, columns = grid_hw[:, :1], grid_hw[:, 1:]
    corner = torch.stack([index % columns, index // columns], dim=-1).float()  # (T, N, 2): x, y in tokens
    size = torch.stack([columns, rows], dim=-1).float()  # (T, 1, 2)
    start, stop = corner / size, (corner + 1) / size  # fractions of the tile
    if tile_xyxy is not None:
        origin, extent = tile_xyxy[:, None, :2], tile_xyxy[:, None, 2:] - tile_xyxy[:, None, :2]
        start, stop = origin + start * extent, origin + stop * extent
    return torch.cat([start, stop], dim=-1)


def tokens_of_bins(
    grid_hw: Int[torch.Tensor, "T 2"],
    *,
    num_tokens: int | torch.SymInt,
    pool: int,
    tile_xyxy: Float[torch.Tensor, "T 4"] | None = None,
) -> Bool[torch.Tensor, "T bins N"]:
    """Returns which tokens lie in each of pool x pool bins that divide their view, in row-major order.

    A token lies in every bin that it overlaps. For a tile that shows all of its view these are the bins of adaptive
    average pooling: bin i of n over s rows covers floor(i s / n) up to ceil((i + 1) s / n), so neighbours share a
    row where n does not divide s, and no bin is empty.

    Args:
        grid_hw: rows and columns of each tile, at least 1.
        num_tokens: padded token count N, a symbol while a graph is exported; tokens beyond a tile's grid lie in no bin.
        pool: bins along each side.
        tile_xyxy: part of the view that each tile shows; None if every tile shows all of it.
    """
    boxes = token_boxes(grid_hw, num_tokens=num_tokens, tile_xyxy=tile_xyxy)
    in_column = _overlaps_bins(boxes[..., 0], boxes[..., 2], pool=pool)  # (T, pool, N)
    in_row = _overlaps_bins(boxes[..., 1], boxes[..., 3], pool=pool)
    inside = in_row[:, :, None] & in_column[:, None, :]  # (T, pool, pool, N)
    on_grid = torch.arange(cast("int", num_tokens), device=grid_hw.device) < grid_hw.prod(dim=1, keepdim=True)
    return inside.flatten(1, 2) & on_grid[:, None]


def _overlaps_bins(
    start: Float[torch.Tensor, "T N"], stop: Float[torch.Tensor, "T N"], *, pool: int
) -> Bool[torch.Tensor, "T bins N"]:
    edges = torch.arange(pool + 1, device=start.device)[:, None] / pool  # (bins + 1, 1)
    overlap = torch.minimum(stop[:, None], edges[1:]) - torch.maximum(start[:, None], edges[:-1])
    return overlap > _MIN_OVERLAP * (stop - start)[:, None].clamp_max(1 / pool)
