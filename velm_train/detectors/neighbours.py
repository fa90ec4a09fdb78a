"""Query vectors and a memory bank go in; exact nearest-neighbour distances come out."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

_BLOCK_ROWS = 4096


def nearest(queries: Float[Tensor, "P C"], bank: Float[Tensor, "M C"]) -> tuple[Float[Tensor, " P"], Int[Tensor, " P"]]:
    """Returns each query's Euclidean distance to its nearest bank vector, and that vector's row.

    The nearest row is found by blocked matrix products; its distance is then computed from the difference itself,
    because the product form loses the digits of small distances.

    Args:
        queries: at least one vector.
        bank: at least one vector, of similar scale.
    """
    centre = bank.mean(dim=0)  # small norms keep the matrix product precise
    centred_bank = bank - centre
    half_norms = centred_bank.square().sum(dim=1) / 2
    rows = torch.cat(
        [
            torch.argmin(torch.addmm(half_norms, block - centre, centred_bank.T, alpha=-1), dim=1)
            for block in torch.split(queries, _BLOCK_ROWS)
        ]
    )
    return torch.linalg.vector_norm(queries - bank[rows], dim=1), rows


def neighbourhood_weight(
    query: Float[Tensor, " C"], bank: Float[Tensor, "M C"], *, nearest_row: int, num_neighbours: int
) -> float:
    """Returns PatchCore's score weight: low where the nearest bank vector lies in a crowd the query is close to.

    `w = 1 - exp(|q - m*|) / sum over m in N_b(m*) of exp(|q - m|)` (Roth et al. 2022, equation 7), where N_b(m*) are
    the b bank vectors nearest to m*, m* among them.

    Args:
        query: the most anomalous patch.
        bank: memory bank; where it holds fewer than `num_neighbours` vectors, all are neighbours.
        nearest_row: row of m*.
        num_neighbours: b, at least 2.

    Returns:
        A value in [0, 1).
    """
    to_centre = torch.linalg.vector_norm(bank - bank[nearest_row], dim=1)
    to_centre[nearest_row] = -1  # m* itself comes first even among equal vectors
    rows = torch.topk(to_centre, min(num_neighbours, bank.shape[0]), largest=False).indices
    distances = torch.linalg.vector_norm(bank[rows] - query, dim=1).double()
    return float(1 - torch.softmax(distances, dim=0)[0])
