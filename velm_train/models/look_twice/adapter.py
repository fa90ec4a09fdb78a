"""Evidence and projected tokens in, token scores, second-look tokens and image scores out.

evidence ──► TokenScores ──► scores (T, N) ──┬──► TokenSelector + projected ──► second_look (T, K, D)
                                             └──► ImageScorer ──► image_logits (I,)
"""

from dataclasses import dataclass
from typing import get_args

import torch
from jaxtyping import Float
from torch import nn

from velm_train.core.batch import VisionEvidence
from velm_train.core.errors import ConfigError
from velm_train.models.look_twice.matching import LookTwiceFeatureMatching
from velm_train.models.look_twice.scorer import ImageScorer
from velm_train.models.look_twice.selector import TokenSelector
from velm_train.models.look_twice.sources import LEARNED_SOURCES, TokenScores, TokenScoreSource
from velm_train.models.protocol import LookTwiceOutput


@dataclass(frozen=True, kw_only=True, slots=True)
class LookTwiceSettings:
    """What shapes a look-twice adapter.

    Attributes:
        source: where token scores come from; "off" for no adapter.
        pool: bins along each side of a tile; 1 + pool * pool second-look tokens.
        dim: width of the adapter's own heads.
        steepness: slope of the map's logit, per pixel threshold.
        prior_weight: weight of the map's logit in "fused".
    """

    source: TokenScoreSource = "fused"
    pool: int = 2
    dim: int = 128
    steepness: float = 4.0
    prior_weight: float = 1.0

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            ConfigError: if a value is out of its range.
        """
        if self.source not in get_args(TokenScoreSource):
            raise ConfigError(f"look-twice source is {self.source!r}; allowed: {', '.join(get_args(TokenScoreSource))}")
        if self.pool < 1 or self.dim < 1:
            raise ConfigError(f"look-twice pool is {self.pool} and dim {self.dim}; both must be at least 1")
        if self.steepness <= 0 or self.prior_weight < 0:
            raise ConfigError(
                f"look-twice steepness is {self.steepness} (must be above 0), prior_weight {self.prior_weight} "
                "(at least 0)"
            )


class LookTwiceAdapter(nn.Module):
    """Composes scores, selector and image scorer; computes in float32 whatever the autocast setting."""

    def __init__(self, *, settings: LookTwiceSettings, level_dim: int, final_dim: int, num_levels: int) -> None:
        """Builds only the parts that the source uses, so that every parameter learns.

        Args:
            settings: any source but "off".
            level_dim: width of each level's features.
            final_dim: width of the final features.
            num_levels: number of depths in the evidence.
        """
        super().__init__()
        self.settings = settings
        matching = None
        if settings.source in LEARNED_SOURCES:
            matching = LookTwiceFeatureMatching(
                level_dim=level_dim, final_dim=final_dim, num_levels=num_levels, dim=settings.dim
            )
        self.scores = TokenScores(
            source=settings.source,
            matching=matching,
            steepness=settings.steepness,
            prior_weight=settings.prior_weight,
        )
        self.selector = TokenSelector(feature_dim=final_dim, pool=settings.pool, dim=settings.dim)
        self.scorer = ImageScorer(feature_dim=final_dim, dim=settings.dim)

    @property
    def num_tokens(self) -> int:
        """Second-look tokens per tile, K."""
        return self.selector.num_tokens

    def forward(self, evidence: VisionEvidence, projected: Float[torch.Tensor, "T N D"]) -> LookTwiceOutput:
        """Looks again.

        Args:
            evidence: of T tiles of I views.
            projected: the same tokens in the language model's embedding space.
        """
        with torch.autocast(device_type=evidence.final.device.type, enabled=False):
            token_scores = self.scores(evidence)
            return LookTwiceOutput(
                token_scores=token_scores,
                second_look=self.selector(evidence, token_scores, projected),
                image_logits=self.scorer(evidence, token_scores),
            )
