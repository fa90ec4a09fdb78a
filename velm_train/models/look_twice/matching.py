"""Evidence in, learned suspicion of every visual token out: Look-Twice Feature Matching.

After Anomaly-OneVision (Xu et al., CVPR 2025, arXiv 2502.07601, section 3): what the object is, read from the
view's global tile, turns two learned embeddings, "anomalous" and "normal", into two directions per level; a
token is suspicious as far as it lies nearer to the first. Deliberate differences to the published code:
attention pooling for the class vector instead of a fixed weight per token position, so that any grid works;
LayerNorm before each level's projection; a sigmoid of the margin (equal to its two-way softmax) in float32 with
a clamp; a learnable scale; padding masked; both embeddings start close together, so that scores start near 0.5.

    levels (L, T, N, Dl) -> LayerNorm, linear -> u                                     margin = scale (cos(u, d+)
    final (T, N, Df) of global tiles -> attention pooling, MLP -> c -> d+, d- per level         - cos(u, d-))
"""

import torch
from jaxtyping import Bool, Float
from torch import nn
from torch.nn import functional as F

from velm_train.core.batch import VisionEvidence
from velm_train.models.look_twice.geometry import bounded, global_tiles, object_tokens

MAX_MARGIN = 30.0
"""Margins are clamped to this, where a float32 sigmoid is still above zero."""

_MAX_SCALE = 100.0
_INITIAL_SCALE = 10.0
_INITIAL_SEPARATION = 0.1
_NORM_FLOOR = 1e-6
_MASKED_LOGIT = -1e9


class LookTwiceFeatureMatching(nn.Module):
    """Compares tokens of several depths with class-aware "anomalous" and "normal" directions."""

    def __init__(self, *, level_dim: int, final_dim: int, num_levels: int, dim: int) -> None:
        """Builds the heads.

        Args:
            level_dim: width of each level's features.
            final_dim: width of the final features.
            num_levels: number of depths.
            dim: width of the space in which tokens and embeddings are compared.
        """
        super().__init__()
        self.final_norm = nn.LayerNorm(final_dim)
        self.class_attention = nn.Linear(final_dim, 1)
        self.class_predictor = nn.Sequential(nn.Linear(final_dim, dim), nn.GELU(), nn.Linear(dim, dim))
        self.level_norms = nn.ModuleList(nn.LayerNorm(level_dim) for _ in range(num_levels))
        self.level_adaptors = nn.ModuleList(nn.Linear(level_dim, dim) for _ in range(num_levels))
        self.prompt_adaptors = nn.ModuleList(nn.Linear(2 * dim, dim) for _ in range(num_levels))
        shared = torch.randn(dim)
        self.anomalous_embedding = nn.Parameter(shared + _INITIAL_SEPARATION * torch.randn(dim))
        self.normal_embedding = nn.Parameter(shared + _INITIAL_SEPARATION * torch.randn(dim))
        self.scale = nn.Parameter(torch.tensor(_INITIAL_SCALE))

    def forward(self, evidence: VisionEvidence) -> Float[torch.Tensor, "T N"]:
        """Returns the mean over levels of sigmoid(margin), in 0..1 and 0 on padding."""
        significance = torch.sigmoid(self.margins(evidence)).mean(dim=0)
        return significance * object_tokens(evidence)

    def margins(self, evidence: VisionEvidence) -> Float[torch.Tensor, "L T N"]:
        """Returns scale (cos(u, d+) - cos(u, d-)) per level, float32, within +-30; padding is not masked."""
        class_vectors = self.class_vectors(evidence)  # (T, dim)
        per_level = [
            self._level_margins(features, class_vectors, level=level) for level, features in enumerate(evidence.levels)
        ]
        scale = self.scale.clamp(1.0, _MAX_SCALE)
        return (scale * torch.stack(per_level)).clamp(-MAX_MARGIN, MAX_MARGIN)

    def class_vectors(self, evidence: VisionEvidence) -> Float[torch.Tensor, "T dim"]:
        """Returns what the object is, from the global tile of each tile's view."""
        chosen = global_tiles(evidence)  # (I,)
        features = self.final_norm(bounded(evidence.final[chosen]))  # (I, N, Df)
        weights = self._class_weights(features, object_tokens(evidence)[chosen])
        pooled = torch.einsum("in,ind->id", weights, features)
        return torch.index_select(self.class_predictor(pooled), 0, evidence.view_index)

    def _class_weights(
        self, features: Float[torch.Tensor, "I N Df"], valid: Bool[torch.Tensor, "I N"]
    ) -> Float[torch.Tensor, "I N"]:
        logits: torch.Tensor = self.class_attention(features).squeeze(-1)
        return logits.masked_fill(~valid, _MASKED_LOGIT).softmax(dim=-1) * valid

    def _level_margins(
        self, features: Float[torch.Tensor, "T N Dl"], class_vectors: Float[torch.Tensor, "T dim"], *, level: int
    ) -> Float[torch.Tensor, "T N"]:
        tokens = self.level_adaptors[level](self.level_norms[level](bounded(features)))
        tokens = F.normalize(tokens, dim=-1, eps=_NORM_FLOOR)
        anomalous = self._direction(self.anomalous_embedding, class_vectors, level=level)
        normal = self._direction(self.normal_embedding, class_vectors, level=level)
        return torch.einsum("tnd,td->tn", tokens, anomalous - normal)

    def _direction(
        self, embedding: Float[torch.Tensor, " dim"], class_vectors: Float[torch.Tensor, "T dim"], *, level: int
    ) -> Float[torch.Tensor, "T dim"]:
        conditioned = torch.cat([embedding.expand_as(class_vectors), class_vectors], dim=-1)
        return F.normalize(self.prompt_adaptors[level](conditioned), dim=-1, eps=_NORM_FLOOR)
