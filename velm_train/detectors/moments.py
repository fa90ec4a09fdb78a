"""Vectors go in batch by batch; counts, sums and outer products that can be added and taken away again come out."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Moments:
    """The first two moments of G Gaussians over the same number of vectors each, in float64.

    They are sums, so that those of two disjoint sets add up to those of both, and those of a part can be taken away:
    what remains is, to rounding, what the rest alone would have given.

    Attributes:
        count: vectors of each Gaussian.
        total: sum of its vectors.
        outer: sum of their outer products.
    """

    count: int
    total: Float[Tensor, "G C"]
    outer: Float[Tensor, "G C C"]

    @staticmethod
    def of(vectors: Float[Tensor, "G N C"]) -> "Moments":
        """Returns the moments of N vectors for each Gaussian."""
        exact = vectors.double()
        return Moments(count=vectors.shape[1], total=exact.sum(dim=1), outer=exact.mT @ exact)

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(count=self.count + other.count, total=self.total + other.total, outer=self.outer + other.outer)

    def __sub__(self, other: "Moments") -> "Moments":
        assert self.count > other.count, (self.count, other.count)
        return Moments(count=self.count - other.count, total=self.total - other.total, outer=self.outer - other.outer)

    def mean(self) -> Float[Tensor, "G C"]:
        """Returns the means."""
        return self.total / self.count

    def covariance(self) -> Float[Tensor, "G C C"]:
        """Returns the covariances with the denominator N - 1; they are zero for a single vector."""
        mean = self.mean()
        centred = self.outer - self.count * mean[:, :, None] * mean[:, None, :]
        return centred / max(self.count - 1, 1) if self.count > 1 else torch.zeros_like(centred)
