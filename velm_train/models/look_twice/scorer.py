"""Token scores and final features in, one anomaly logit per view out."""

import torch
from jaxtyping import Float
from torch import nn

from velm_train.core.batch import VisionEvidence
from velm_train.models.look_twice.geometry import SCORE_FLOOR, bounded, object_tokens, tiles_of_views


class ImageScorer(nn.Module):
    """A small MLP on a view's score-weighted mean feature beside its highest and its mean token score."""

    def __init__(self, *, feature_dim: int, dim: int) -> None:
        """Builds the MLP.

        Args:
            feature_dim: width of the final features.
            dim: hidden width.
        """
        super().__init__()
        self.norm = nn.LayerNorm(feature_dim)
        self.mlp = nn.Sequential(nn.Linear(feature_dim + 2, dim), nn.GELU(), nn.Linear(dim, 1))

    def forward(self, evidence: VisionEvidence, scores: Float[torch.Tensor, "T N"]) -> Float[torch.Tensor, " I"]:
        """Returns logits; all object tokens of all tiles of a view count by their score.

        Args:
            evidence: final features, views and padding.
            scores: suspicion in 0..1, 0 on padding.
        """
        valid = object_tokens(evidence)
        of_view = tiles_of_views(evidence).float()  # (I, T)
        weights = (scores.float() + SCORE_FLOOR) * valid
        features = self.norm(bounded(evidence.final)) * valid[..., None]
        weighted = of_view @ torch.einsum("tn,tnd->td", weights, features)
        total = of_view @ weights.sum(dim=1, keepdim=True)
        highest = (of_view * scores.amax(dim=1)).amax(dim=1, keepdim=True)
        mean = of_view @ (scores * valid).sum(dim=1, keepdim=True)
        count = (of_view @ valid.sum(dim=1, keepdim=True).float()).clamp_min(1.0)
        pooled = torch.cat([weighted / total.clamp_min(SCORE_FLOOR), highest, mean / count], dim=1)
        logits: torch.Tensor = self.mlp(pooled)
        return logits.squeeze(1)
