"""Query vectors and a memory bank go in; exact nearest-neighbour distances come out."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_BLOCK_ROWS = 1024


class MemoryBank:
    """Vectors of several layers side by side, searched under any scale of the layers and without any of the vectors.

    Leave-one-out asks for other scales and other vectors with every image. Here neither costs a copy of the bank: the
    squared scales go into the queries, and every layer's share of the squared norms is known beforehand.
    """

    def __init__(self, vectors: Float[Tensor, "M C"], *, channels: Sequence[int]) -> None:
        """Prepares the search; holds the vectors and one copy of them.

        Args:
            vectors: at least one.
            channels: width of each layer, C in all.
        """
        assert sum(channels) == vectors.shape[1], (channels, vectors.shape)
        self.vectors = vectors
        self._channels = torch.tensor(channels, device=vectors.device)
        self._centre = vectors.mean(dim=0)  # small norms keep the matrix product precise
        self._centred = vectors - self._centre
        layers = torch.split(self._centred, list(channels), dim=1)
        self._half_norms = torch.stack([layer.square().sum(dim=1) / 2 for layer in layers])  # (L, M)

    def nearest(
        self, queries: Float[Tensor, "P C"], *, scales: Float[Tensor, " L"], left_out: Bool[Tensor, " M"] | None = None
    ) -> tuple[Float[Tensor, " P"], Int[Tensor, " P"]]:
        """Returns each query's Euclidean distance to its nearest vector, and that vector's row.

        The nearest row is found by blocked matrix products; its distance is then computed from the difference itself,
        because the product form loses the digits of small distances.

        Args:
            queries: in the units of the vectors.
            scales: factor of each layer in the distance.
            left_out: vectors that are not there; at least one has to be.
        """
        channel_scales = self._per_channel(scales)
        half_norms = self._half_norms_at(scales, left_out)
        weights = channel_scales.square()
        distances = torch.empty(len(queries), device=queries.device)
        rows = torch.empty(len(queries), dtype=torch.int64, device=queries.device)
        for start in range(0, len(queries), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            weighted = (queries[block] - self._centre) * weights
            rows[block] = torch.addmm(half_norms, weighted, self._centred.T, alpha=-1).argmin(dim=1)
            differences = queries[block] * channel_scales - self.vectors[rows[block]] * channel_scales
            distances[block] = torch.linalg.vector_norm(differences, dim=1)
        return distances, rows

    def nearest_of_two_groups(
        self, queries: Float[Tensor, "P C"], *, scales: Float[Tensor, " L"], groups: Int[Tensor, " M"], left_out: int
    ) -> tuple[Float[Tensor, " P"], Int[Tensor, " P"], Float[Tensor, " P"]]:
        """Returns distances to the nearest vector, that vector's group, and distances to the nearest of other groups.

        Args:
            queries: in the units of the vectors.
            scales: as for `nearest`.
            groups: number of each vector's group, 0 or more.
            left_out: the group whose vectors are not there. Where nothing remains, distances are infinite and the group
                is -1.
        """
        channel_scales = self._per_channel(scales)
        half_norms = self._half_norms_at(scales, groups == left_out)
        weights = channel_scales.square()
        first, second = torch.empty(2, len(queries), device=queries.device)
        first_group = torch.empty(len(queries), dtype=groups.dtype, device=queries.device)
        for start in range(0, len(queries), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            weighted = (queries[block] - self._centre) * weights
            closeness = torch.addmm(half_norms, weighted, self._centred.T, alpha=-1)
            scaled = queries[block] * channel_scales
            first[block], rows = self._closest(closeness, scaled, channel_scales)
            found = groups[rows]
            first_group[block] = found.masked_fill(first[block].isinf(), -1)
            closeness.masked_fill_(groups == found[:, None], torch.inf)
            second[block], _ = self._closest(closeness, scaled, channel_scales)
        return first, first_group, second

    def neighbourhood_weight(
        self,
        query: Float[Tensor, " C"],
        *,
        nearest_row: int,
        num_neighbours: int,
        scales: Float[Tensor, " L"],
        left_out: Bool[Tensor, " M"] | None = None,
    ) -> float:
        """Returns PatchCore's score weight: low where the nearest vector lies in a crowd the query is close to.

        `w = 1 - exp(|q - m*|) / sum over m in N_b(m*) of exp(|q - m|)` (Roth et al. 2022, equation 7), where N_b(m*)
        are the b vectors nearest to m*, m* among them.

        Args:
            query: the most anomalous patch.
            nearest_row: row of m*.
            num_neighbours: b, at least 2; where the bank holds fewer vectors, all are neighbours.
            scales: as for `nearest`.
            left_out: as for `nearest`.

        Returns:
            A value in [0, 1).
        """
        channel_scales = self._per_channel(scales)
        half_norms = self._half_norms_at(scales, left_out)
        closeness = self._centred @ (self._centred[nearest_row] * channel_scales.square()) - half_norms
        closeness[nearest_row] = torch.inf  # m* itself comes first even among equal vectors
        present = len(closeness) - (0 if left_out is None else int(left_out.sum()))
        rows = torch.topk(closeness, min(num_neighbours, present)).indices
        differences = self.vectors[rows] * channel_scales - query * channel_scales
        return float(1 - torch.softmax(torch.linalg.vector_norm(differences, dim=1).double(), dim=0)[0])

    def _closest(
        self, closeness: Float[Tensor, "P M"], scaled: Float[Tensor, "P C"], channel_scales: Float[Tensor, " C"]
    ) -> tuple[Float[Tensor, " P"], Int[Tensor, " P"]]:
        """Returns distances and rows of the smallest entries; infinite where no entry is finite."""
        smallest, rows = closeness.min(dim=1)
        distances = torch.linalg.vector_norm(scaled - self.vectors[rows] * channel_scales, dim=1)
        return distances.masked_fill(smallest.isinf(), torch.inf), rows

    def _per_channel(self, scales: Float[Tensor, " L"]) -> Float[Tensor, " C"]:
        return torch.repeat_interleave(scales, self._channels)

    def _half_norms_at(self, scales: Float[Tensor, " L"], left_out: Bool[Tensor, " M"] | None) -> Float[Tensor, " M"]:
        """Returns half of the squared norms under these scales, infinite for vectors that are left out."""
        half_norms = scales.square() @ self._half_norms
        return half_norms if left_out is None else half_norms.masked_fill(left_out, torch.inf)


def nearest(queries: Float[Tensor, "P C"], bank: Float[Tensor, "M C"]) -> tuple[Float[Tensor, " P"], Int[Tensor, " P"]]:
    """Returns each query's Euclidean distance to its nearest bank vector, and that vector's row.

    Args:
        queries: at least one vector.
        bank: at least one vector, of similar scale.
    """
    return MemoryBank(bank, channels=[bank.shape[1]]).nearest(queries, scales=torch.ones(1, device=bank.device))
