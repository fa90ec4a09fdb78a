"""Token scores and projected tokens in, K second-look tokens per view out.

After the visual token selector of Anomaly-OneVision (arXiv 2502.07601, section 3): queries are score-weighted
means over bins, keys are all tokens of the view, values stay unprojected, so that every result is a convex
combination of tokens that the language model already reads. Deliberate differences: values are taken in the
language model's space; the scores enter the attention as a prior log(score); a learnable bonus for tokens of a
query's own bin keeps the K tokens apart from the first step on, when query and key know nothing yet.

A prompt holds K placeholders per view, whatever the number of tiles. Bins divide the view, not a tile; a token of a
crop lies in the bins that its place in the view overlaps, and competes there with the tokens of the global tile. The
published code adds 4 tokens per tile instead, so that the length of the prompt depends on the picture's size.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import nn

from velm_train.core.batch import VisionEvidence
from velm_train.models.look_twice.geometry import SCORE_FLOOR, bounded, by_view, object_tokens, tokens_of_bins

_INITIAL_LOCALITY = 4.0
_MASKED_LOGIT = -1e9


class TokenSelector(nn.Module):
    """One global token, the score-weighted mean of a view, and pool x pool tokens that attend to suspicious places."""

    def __init__(self, *, feature_dim: int, pool: int, dim: int) -> None:
        """Starts with zero queries, so that at first the scores and the bins alone decide.

        Args:
            feature_dim: width of the final features, from which queries and keys are made.
            pool: bins along each side of a view, at least 1.
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
        """Second-look tokens per view, K."""
        return 1 + self.pool * self.pool

    def forward(
        self,
        evidence: VisionEvidence,
        scores: Float[torch.Tensor, "T N"],
        projected: Float[torch.Tensor, "T N D"],
    ) -> Float[torch.Tensor, "I K D"]:
        """Returns the global token and then the binned ones, row-major; a view of padding alone gives zeros.

        Args:
            evidence: final features, grids, views and padding.
            scores: suspicion in 0..1, 0 on padding.
            projected: the same tokens in the language model's space.
        """
        weights = self.attention(evidence, scores)
        values = torch.where(object_tokens(evidence)[..., None], projected.float(), 0.0)
        return weights @ by_view(values, evidence)

    def attention(self, evidence: VisionEvidence, scores: Float[torch.Tensor, "T N"]) -> Float[torch.Tensor, "I K V"]:
        """Returns the weights of every second-look token over its view's tokens, those of one tile after another.

        Rows sum to 1, padding gets 0.
        """
        valid = by_view(object_tokens(evidence), evidence)  # (I, V)
        packed = by_view(scores.float(), evidence)
        floored = (packed + SCORE_FLOOR) * valid
        whole_view = floored / floored.sum(dim=-1, keepdim=True).clamp_min(SCORE_FLOOR)
        features = by_view(self.norm(bounded(evidence.final)), evidence) * valid[..., None]
        bins = self._bins(evidence).float()  # (I, bins, V)
        in_bin = bins * floored[:, None, :]
        means = in_bin @ features / in_bin.sum(dim=-1, keepdim=True).clamp_min(SCORE_FLOOR)
        content = self.query(means) @ self.key(features).transpose(1, 2) / math.sqrt(self.key.out_features)
        logits = content + (packed + SCORE_FLOOR).log()[:, None] + self.locality * bins
        per_bin = logits.masked_fill(~valid[:, None], _MASKED_LOGIT).softmax(dim=-1) * valid[:, None]
        return torch.cat([whole_view[:, None], per_bin], dim=1)

    def _bins(self, evidence: VisionEvidence) -> Bool[torch.Tensor, "I bins V"]:
        bins = tokens_of_bins(
            evidence.grid_hw, num_tokens=evidence.valid.shape[1], pool=self.pool, tile_xyxy=evidence.tile_xyxy
        )
        return by_view(bins.transpose(1, 2), evidence).transpose(1, 2)
