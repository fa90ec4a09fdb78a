"""Frozen tower features in, tokens in the language model's embedding space out."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional as F

from velm_train.core.errors import ConfigError


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
    projected: Float[torch.Tensor, "T N D"], *, token_grid: int, first_look_grid: int
) -> Float[torch.Tensor, "T F D"]:
    """Averages square blocks of a square token grid.

    Args:
        projected: fine tokens, row-major, N = token_grid squared.
        token_grid: fine tokens along a side.
        first_look_grid: pooled tokens along a side; divides token_grid.

    Returns:
        Pooled tokens, row-major, F = first_look_grid squared.
    """
    num_tiles, _, dim = projected.shape
    block = token_grid // first_look_grid
    blocks = projected.reshape(num_tiles, first_look_grid, block, first_look_grid, block, dim)
    return blocks.mean(dim=(2, 4)).flatten(1, 2)
