"""Evidence in, suspicion, four feature tokens per tile and one logit per view out: Anomaly-OneVision as released.

The equations of the released module (Xu et al., CVPR 2025, arXiv 2502.07601, section 3; sizes of the released
weights: 4 levels of 1152 channels, 27 x 27 tokens, width 512, 7,086,811 parameters):

    c      = MLP(sum_n w_n v_n + b), v the final features of the view's global tile, w a fixed weight per position
    d+, d- = norm(G_l [e+ ; c]), norm(G_l [e- ; c])           one linear map per level for both signs
    u      = norm(A_l v_l)                                    raw features, no LayerNorm
    m      = mean over levels of softmax(100 <u, d+>, 100 <u, d->), first entry = sigmoid(100 <u, d+ - d->)
    q      = P(m v) / P(m), P the average over 2 x 2 bins     4 queries per tile
    s      = softmax((W_q q)(W_k v)' / sqrt(512)) v           values unprojected: combinations of the tile's tokens
    r      = sum w s / sum w over tiles and bins, w = P(m) mean(m);   logit = MLP(r)

Here + is the anomalous sign, as in the paper; the released code holds it in its "negative" embedding.

What the released code does wrong, and what is done about it here:

- P(m) and sum w underflow to 0 at a margin below about -1 and give NaN. Fixed: weights are a softmax of log m, the same
  quotient in exact arithmetic and never 0 / 0.
- Matching runs in bfloat16 at a scale of 100. Fixed: float32.
- The norm of a zero vector is NaN. Fixed: it is 0.
- Padding counts like object pixels, in every mean and as key. Reproduced; only the scores reported are 0 there.
- The class vector weighs positions, so that a tower has one grid only. Reproduced; another grid is refused.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional as F

from velm_train.core.batch import VisionEvidence
from velm_train.core.errors import ConfigError
from velm_train.models.look_twice.geometry import bounded, by_view, global_tiles, object_tokens, tokens_of_bins

LOGIT_SCALE = 100.0
"""One over the published temperature of 0.01."""


@dataclass(frozen=True, kw_only=True)  # without slots: DeepSpeed looks into what modules return by vars()
class PublishedOutput:
    """What the published expert says about T tiles of I views.

    Attributes:
        token_scores: m, 0 on padding.
        tile_tokens: s, pool x pool tokens per tile in the vision tower's space, bins row-major.
        log_weights: log w of each of them.
        view_vectors: r.
        image_logits: before the sigmoid that the published code ends with.
    """

    token_scores: Float[torch.Tensor, "T N"]
    tile_tokens: Float[torch.Tensor, "T bins Df"]
    log_weights: Float[torch.Tensor, "T bins"]
    view_vectors: Float[torch.Tensor, "I Df"]
    image_logits: Float[torch.Tensor, " I"]


class PublishedLookTwice(nn.Module):
    """Look-Twice Feature Matching and visual token selector with the released sizes and wiring."""

    def __init__(
        self, *, level_dim: int, final_dim: int, num_levels: int, num_tokens: int, dim: int = 512, pool: int = 2
    ) -> None:
        """Builds the parts; the defaults are the published sizes.

        Args:
            level_dim: width of each level's features; published 1152.
            final_dim: width of the final features; published 1152.
            num_levels: number of depths; published 4.
            num_tokens: tokens of every tile; published 729.
            dim: width of embeddings, class vector and attention.
            pool: bins along each side of a tile.
        """
        super().__init__()
        self.pool = pool
        self.class_pooling = nn.Linear(num_tokens, 1)
        self.class_predictor = nn.Sequential(nn.Linear(final_dim, dim), nn.GELU(), nn.Linear(dim, dim))
        self.level_adaptors = nn.ModuleList(nn.Linear(level_dim, dim) for _ in range(num_levels))
        self.prompt_adaptors = nn.ModuleList(nn.Linear(2 * dim, dim) for _ in range(num_levels))
        self.anomalous_embedding = nn.Parameter(torch.randn(dim))
        self.normal_embedding = nn.Parameter(torch.randn(dim))
        self.query = nn.Linear(final_dim, dim)
        self.key = nn.Linear(final_dim, dim)
        self.final_predictor = nn.Sequential(nn.Linear(final_dim, dim), nn.GELU(), nn.Linear(dim, 1))

    @property
    def num_tokens(self) -> int:
        """Visual tokens of every tile."""
        return self.class_pooling.in_features

    def forward(self, evidence: VisionEvidence) -> PublishedOutput:
        """Scores, selects and judges.

        Raises:
            ConfigError: if a tile's grid has another number of tokens than the weights.
        """
        self._require_grid(evidence)
        log_scores = self.log_scores(evidence)  # (T, N)
        features = bounded(evidence.final)
        in_bin = log_scores[:, None].masked_fill(~self._bins(evidence), -torch.inf)  # (T, bins, N)
        queries = in_bin.softmax(dim=-1) @ features
        similarity = self.query(queries) @ self.key(features).transpose(1, 2) / math.sqrt(self.key.out_features)
        tile_tokens = similarity.softmax(dim=-1) @ features  # (T, bins, Df)
        log_weights = _log_mean(in_bin) + _log_mean(log_scores)[:, None]
        view_vectors = _weighted_mean(tile_tokens, log_weights, evidence)
        logits: torch.Tensor = self.final_predictor(view_vectors)
        return PublishedOutput(
            token_scores=log_scores.exp() * object_tokens(evidence),
            tile_tokens=tile_tokens,
            log_weights=log_weights,
            view_vectors=view_vectors,
            image_logits=logits.squeeze(1),
        )

    def log_scores(self, evidence: VisionEvidence) -> Float[torch.Tensor, "T N"]:
        """Returns log m, finite where m itself underflows."""
        class_vectors = self.class_vectors(evidence)
        per_level = []
        for features, adaptor, prompt in zip(evidence.levels, self.level_adaptors, self.prompt_adaptors, strict=True):
            tokens = F.normalize(adaptor(bounded(features)), dim=-1)
            directions = [
                F.normalize(prompt(torch.cat([sign.expand_as(class_vectors), class_vectors], dim=-1)), dim=-1)
                for sign in (self.anomalous_embedding, self.normal_embedding)
            ]
            per_level.append(LOGIT_SCALE * torch.einsum("tnd,td->tn", tokens, directions[0] - directions[1]))
        return _log_mean(F.logsigmoid(torch.stack(per_level, dim=-1)))

    def class_vectors(self, evidence: VisionEvidence) -> Float[torch.Tensor, "T dim"]:
        """Returns c of each tile's view."""
        features = bounded(evidence.final[global_tiles(evidence)])  # (I, N, Df)
        pooled = self.class_pooling(features.transpose(1, 2)).squeeze(-1)
        return torch.index_select(self.class_predictor(pooled), 0, evidence.view_index)

    def _bins(self, evidence: VisionEvidence) -> torch.Tensor:
        return tokens_of_bins(evidence.grid_hw, num_tokens=self.num_tokens, pool=self.pool)

    def _require_grid(self, evidence: VisionEvidence) -> None:
        counts = set(evidence.grid_hw.prod(dim=1).tolist()) | {evidence.final.shape[1]}
        if counts != {self.num_tokens}:
            raise ConfigError(
                f"look_twice.form=published weighs {self.num_tokens} token positions, tiles here have "
                f"{sorted(counts)}; use a model whose tiles all have one grid, or look_twice.form=improved"
            )


def one_set_per_view(output: PublishedOutput, evidence: VisionEvidence) -> Float[torch.Tensor, "I bins Df"]:
    """Averages the tokens of equal bins over a view's tiles by their published weights w.

    The released code gives the language model the tokens of every tile; here a view has a fixed number of places.
    With one tile per view the tokens are those of the tile.
    """
    if len(output.view_vectors) == len(output.tile_tokens):
        return output.tile_tokens
    per_bin = [
        _weighted_mean(output.tile_tokens[:, number : number + 1], output.log_weights[:, number : number + 1], evidence)
        for number in range(output.tile_tokens.shape[1])
    ]
    return torch.stack(per_bin, dim=1)


def _weighted_mean(
    tokens: Float[torch.Tensor, "T bins Df"], log_weights: Float[torch.Tensor, "T bins"], evidence: VisionEvidence
) -> Float[torch.Tensor, "I Df"]:
    present = by_view(torch.ones_like(log_weights, dtype=torch.bool), evidence)
    weights = by_view(log_weights, evidence).masked_fill(~present, -torch.inf).softmax(dim=1)
    return torch.einsum("iv,ivd->id", weights, by_view(tokens, evidence))


def _log_mean(log_values: Float[torch.Tensor, "*dims n"]) -> Float[torch.Tensor, "*dims"]:
    """Returns the logarithm of the mean over the last axis of the entries above -inf."""
    counts = (log_values > -torch.inf).sum(dim=-1)
    return log_values.logsumexp(dim=-1) - counts.log()
