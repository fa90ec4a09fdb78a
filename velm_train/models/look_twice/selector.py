"""Token scores and projected tokens in, K second-look tokens per tile out.

After the visual token selector of Anomaly-OneVision (arXiv 2502.07601, section 3): queries are score-weighted
means over bins, keys are all tokens of the tile, values stay unprojected, so that every result is a convex
combination of tokens that the language model already reads. Deliberate differences: values are taken in the
language model's space; the scores enter the attention as a prior log(score); a learnable bonus for tokens of a
query's own bin keeps the K tokens apart from the first step on, when query and key know nothing yet.
"""

import math

import torch
from jaxtyping import Float
from torch import nn

from velm_train.core.batch import VisionEvidence
from velm_train.models.look_twice.geometry import SCORE_FLOOR, bounded, object_tokens, tokens_of_bins

_INITIAL_LOCALITY = 4.0
_MASKED_LOGIT = -1e9


class TokenSelector(nn.Module):
    """One global token, the score-weighted mean of a tile, and pool x pool tokens that attend to suspicious places."""

    def __init__(self, *, feature_dim: int, pool: int, dim: int) -> None:
        """Starts with zero queries, so that at first the scores and the bins alone decide.

        Args:
            feature_dim: width of the final features, from which queries and keys are made.
            pool: bins along each side of a tile, at least 1.
            dim: width of queries and keys.
        """
        super().__init__()
        self.pool = pool
        self.norm = nn.LayerNorm(feature_dim)
        self.query = nn.Linear(feature_dim, dim)
        self.key = nn.Linear(feature_dim, dim)
        self.locality = nn.Parameter(torch.tensor(_INITIAL_LOCALITY))
        nn.init.zeros_(self.query.weight)
        nn.init.zeros_(self.query.bias)

    @property
    def num_tokens(self) -> int:
        """Second-look tokens per tile, K."""
        return 1 + self.pool * self.pool

    def forward(
        self,
        evidence: VisionEvidence,
        scores: Float[torch.Tensor, "T N"],
        projected: Float[torch.Tensor, "T N D"],
    ) -> Float[torch.Tensor, "T K D"]:
        """Returns the global token and then the binned ones, row-major; a tile of padding alone gives zeros.

        Args:
            evidence: final features, grids and padding.
            scores: suspicion in 0..1, 0 on padding.
            projected: the same tokens in the language model's space.
        """
        weights = self.attention(evidence, scores)
        values = torch.where(object_tokens(evidence)[..., None], projected.float(), 0.0)
        return weights @ values

    def attention(self, evidence: VisionEvidence, scores: Float[torch.Tensor, "T N"]) -> Float[torch.Tensor, "T K N"]:
        """Returns the weights of every second-look token over its tile's tokens; rows sum to 1, padding gets 0."""
        valid = object_tokens(evidence)
        floored = (scores.float() + SCORE_FLOOR) * valid  # (T, N)
        whole_tile = floored / floored.sum(dim=-1, keepdim=True).clamp_min(SCORE_FLOOR)
        features = self.norm(bounded(evidence.final)) * valid[..., None]
        bins = tokens_of_bins(evidence.grid_hw, num_tokens=valid.shape[1], pool=self.pool).float()
        in_bin = bins * floored[:, None, :]  # (T, bins, N)
        means = in_bin @ features / in_bin.sum(dim=-1, keepdim=True).clamp_min(SCORE_FLOOR)
        content = self.query(means) @ self.key(features).transpose(1, 2) / math.sqrt(self.key.out_features)
        logits = content + (scores.float() + SCORE_FLOOR).log()[:, None] + self.locality * bins
        per_bin = logits.masked_fill(~valid[:, None], _MASKED_LOGIT).softmax(dim=-1) * valid[:, None]
        return torch.cat([whole_tile[:, None], per_bin], dim=1)
