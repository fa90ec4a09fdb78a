"""Frozen tower features in, tokens in the language model's embedding space out."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import nn
from torch.nn import functional as F

from velm_train.core.errors import ConfigError
from velm_train.models.look_twice.geometry import tokens_of_bins


class VisionProjector(nn.Module):
    """A LayerNorm per source, two linear layers with GELU, and a result of the length of a word embedding."""

    def __init__(self, *, source_dims: Sequence[int], hidden_dim: int, out_dim: int, out_norm: float) -> None:
        """Builds the layers.

        Args:
            source_dims: widths of the concatenated feature sources, in order.
            hidden_dim: width between the linear layers.
            out_dim: width of the language model, D.
            out_norm: Euclidean length of every projected token; the mean length of the language model's word
                embeddings puts both on one scale.
        """
        super().__init__()
        self.source_dims = tuple(source_dims)
        self.out_dim = out_dim
        self.out_norm = out_norm
        self.source_norms = nn.ModuleList(nn.LayerNorm(dim) for dim in source_dims)
        self.hidden = nn.Linear(sum(source_dims), hidden_dim)
        self.output = nn.Linear(hidden_dim, out_dim)

    def forward(self, final: Float[torch.Tensor, "T N Df"]) -> Float[torch.Tensor, "T N D"]:
        """Projects every token.

        Args:
            final: concatenated sources in any float type.
        """
        sources = torch.split(final.to(self.hidden.weight.dtype), list(self.source_dims), dim=-1)
        normed = [norm(source) for norm, source in zip(self.source_norms, sources, strict=True)]
        tokens = self.output(F.gelu(self.hidden(torch.cat(normed, dim=-1))))
        return F.layer_norm(tokens, (self.out_dim,)) * (self.out_norm / math.sqrt(self.out_dim))


def check_first_look_grid(first_look_grid: int, *, token_grid: int) -> None:
    """Checks that blocks of the fine grid make up the first look.

    Raises:
        ConfigError: if it does not divide the fine grid.
    """
    if first_look_grid < 1 or token_grid % first_look_grid:
        divisors = ", ".join(str(number) for number in range(1, token_grid + 1) if token_grid % number == 0)
        raise ConfigError(
            f"first_look_grid is {first_look_grid}, which does not divide the {token_grid} x {token_grid} grid of fine "
            f"tokens; allowed: {divisors}"
        )


def pool_first_look(
    projected: Float[torch.Tensor, "I N D"],
    *,
    grid_hw: Int[torch.Tensor, "I 2"],
    valid: Bool[torch.Tensor, "I N"],
    first_look_grid: int,
) -> Float[torch.Tensor, "I F D"]:
    """Averages the tokens of each cell of a coarse grid; cells of padding alone give zeros.

    Args:
        projected: fine tokens of each view's global tile, row-major.
        grid_hw: their rows and columns.
        valid: False on padding, which does not count.
        first_look_grid: cells along a side.

    Returns:
        Pooled tokens, row-major, F = first_look_grid squared.
    """
    num_views, num_tokens, dim = projected.shape
    rows, columns = (int(side) for side in grid_hw[0])
    even = rows % first_look_grid == 0 and columns % first_look_grid == 0 and rows * columns == num_tokens
    if even and bool((grid_hw == grid_hw[0]).all()) and bool(valid.all()):
        blocks = projected.reshape(
            num_views, first_look_grid, rows // first_look_grid, first_look_grid, columns // first_look_grid, dim
        )
        return blocks.mean(dim=(2, 4)).flatten(1, 2)
    bins = tokens_of_bins(grid_hw, num_tokens=num_tokens, pool=first_look_grid) & valid[:, None]
    shares = bins / bins.sum(dim=-1, keepdim=True).clamp_min(1)
    return shares.to(projected.dtype) @ torch.where(valid[..., None], projected, 0.0)
