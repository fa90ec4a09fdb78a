"""Evidence and projected tokens in, token scores, second-look tokens and image scores out.

improved    evidence ──► TokenScores ──► scores (T, N) ──┬──► TokenSelector + projected ──► second_look (I, K, D)
                                                         └──► ImageScorer ──► image_logits (I,)
published   evidence ──► PublishedLookTwice ──► r, 4 tokens (I, K, Df) ──► the model's projector ──► second_look
                                        └─────► scores (T, N), image_logits (I,)

Everything that differs between model families is in the evidence: grids, tiles, views, padding.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import nn

from velm_train.core.batch import VisionEvidence
from velm_train.core.errors import ConfigError
from velm_train.models.look_twice.matching import LookTwiceFeatureMatching
from velm_train.models.look_twice.published import PublishedLookTwice, one_set_per_view
from velm_train.models.look_twice.scorer import ImageScorer
from velm_train.models.look_twice.selector import TokenSelector
from velm_train.models.look_twice.sources import LEARNED_SOURCES, TokenScores, TokenScoreSource
from velm_train.models.protocol import LookTwiceOutput

LookTwiceForm = Literal["improved", "published"]
"""Which equations: those of this project, or those of the released code of Anomaly-OneVision."""

Project = Callable[[torch.Tensor], torch.Tensor]
"""Features of the vision tower (n, K, Df) -> tokens in the language model's space (n, K, D)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LookTwiceSettings:
    """What shapes a look-twice adapter.

    Attributes:
        source: where token scores come from; "off" for no adapter.
        form: "improved", or "published" for source "learned" with the released code's equations.
        pool: bins along each side of a view; 1 + pool * pool second-look tokens.
        dim: width of the adapter's own heads; published 512.
        steepness: slope of the map's logit, per pixel threshold.
        prior_weight: weight of the map's logit in "fused".
        score_noise: standard deviation of noise on the learned logit in training, so that the language model does
            not come to trust scores that are better on training views than on others; 0 for none.
    """

    source: TokenScoreSource = "fused"
    form: LookTwiceForm = "improved"
    pool: int = 2
    dim: int = 128
    steepness: float = 4.0
    prior_weight: float = 1.0
    score_noise: float = 0.0

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            ConfigError: if a value is out of its range, or two do not go together.
        """
        if self.source not in get_args(TokenScoreSource):
            raise ConfigError(f"look-twice source is {self.source!r}; allowed: {', '.join(get_args(TokenScoreSource))}")
        if self.pool < 1 or self.dim < 1:
            raise ConfigError(f"look-twice pool is {self.pool} and dim {self.dim}; both must be at least 1")
        if self.steepness <= 0 or self.prior_weight < 0 or self.score_noise < 0:
            raise ConfigError(
                f"look-twice steepness is {self.steepness} (must be above 0), prior_weight {self.prior_weight} and "
                f"score_noise {self.score_noise} (at least 0)"
            )
        if self.form == "published" and (self.source not in ("learned", "off") or self.score_noise > 0):
            raise ConfigError(
                f"look-twice form 'published' goes with source 'learned' and score_noise 0, got {self.source!r} and "
                f"{self.score_noise}; choose form 'improved' for anything else"
            )


class LookTwice(nn.Module, ABC):
    """A second look at evidence, in either form; computes in float32 whatever the autocast setting."""

    def __init__(self, settings: LookTwiceSettings) -> None:
        """Keeps the settings, which a saved adapter is compared by."""
        super().__init__()
        self.settings = settings

    @property
    def num_tokens(self) -> int:
        """Second-look tokens per view, K."""
        return 1 + self.settings.pool**2

    def forward(self, evidence: VisionEvidence, projected: Float[torch.Tensor, "T N D"]) -> LookTwiceOutput:
        """Looks again.

        Args:
            evidence: of T tiles of I views.
            projected: the same tokens in the language model's embedding space.
        """
        with torch.autocast(device_type=evidence.final.device.type, enabled=False):
            return self.look(evidence, projected)

    @abstractmethod
    def look(self, evidence: VisionEvidence, projected: Float[torch.Tensor, "T N D"]) -> LookTwiceOutput:
        """Does what `forward` promises, with autocast switched off."""
        ...


class LookTwiceAdapter(LookTwice):
    """The improved form: scores of any source, a selector and an image scorer."""

    def __init__(self, *, settings: LookTwiceSettings, level_dim: int, final_dim: int, num_levels: int) -> None:
        """Builds only the parts that the source uses, so that every parameter learns.

        Args:
            settings: form "improved", any source but "off".
            level_dim: width of each level's features.
            final_dim: width of the final features.
            num_levels: number of depths in the evidence.
        """
        super().__init__(settings)
        assert settings.form == "improved", settings.form
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
            score_noise=settings.score_noise,
        )
        self.selector = TokenSelector(feature_dim=final_dim, pool=settings.pool, dim=settings.dim)
        self.scorer = ImageScorer(feature_dim=final_dim, dim=settings.dim)

    def look(self, evidence: VisionEvidence, projected: Float[torch.Tensor, "T N D"]) -> LookTwiceOutput:
        """Scores every token, selects among the projected ones by the scores, judges every view."""
        token_scores = self.scores(evidence)
        return LookTwiceOutput(
            token_scores=token_scores,
            second_look=self.selector(evidence, token_scores, projected),
            image_logits=self.scorer(evidence, token_scores),
        )


class PublishedAdapter(LookTwice):
    """The published form: tokens are made in the vision tower's space and go through the model's own projector."""

    def __init__(
        self,
        *,
        settings: LookTwiceSettings,
        level_dim: int,
        final_dim: int,
        num_levels: int,
        num_tokens: int,
        project: Project,
    ) -> None:
        """Builds the expert.

        Args:
            settings: form "published".
            level_dim: width of each level's features.
            final_dim: width of the final features.
            num_levels: number of depths in the evidence.
            num_tokens: visual tokens of every tile.
            project: the model's projector. A bound method, so that its weights stay the model's and are neither
                saved nor counted here.
        """
        super().__init__(settings)
        assert settings.form == "published", settings.form
        assert not isinstance(project, nn.Module), "a module would become part of the adapter; pass module.__call__"
        self.expert = PublishedLookTwice(
            level_dim=level_dim,
            final_dim=final_dim,
            num_levels=num_levels,
            num_tokens=num_tokens,
            dim=settings.dim,
            pool=settings.pool,
        )
        self._project = project

    def look(self, evidence: VisionEvidence, projected: Float[torch.Tensor, "T N D"]) -> LookTwiceOutput:
        """Returns r and the tokens of the bins, projected; `projected` itself is not read, only its type."""
        found = self.expert(evidence)
        features = torch.cat([found.view_vectors[:, None], one_set_per_view(found, evidence)], dim=1)  # (I, K, Df)
        return LookTwiceOutput(
            token_scores=found.token_scores,
            second_look=self._project(features).to(projected.dtype).float(),
            image_logits=found.image_logits,
        )


def build_look_twice(
    *,
    settings: LookTwiceSettings,
    level_dim: int,
    final_dim: int,
    num_levels: int,
    num_tokens: int | None,
    project: Project,
) -> LookTwice | None:
    """Returns a fresh adapter of either form, or None for source "off".

    Args:
        settings: what to build.
        level_dim: width of each level's features.
        final_dim: width of the final features.
        num_levels: number of depths in the evidence.
        num_tokens: visual tokens of every tile, or None for a model whose tiles differ.
        project: features of the vision tower -> the language model's space; read by the published form alone.

    Raises:
        ConfigError: if the published form is asked of a model whose tiles differ.
    """
    if settings.source == "off":
        return None
    if settings.form == "improved":
        return LookTwiceAdapter(settings=settings, level_dim=level_dim, final_dim=final_dim, num_levels=num_levels)
    if num_tokens is None:
        raise ConfigError(
            "look_twice.form=published needs a model whose tiles all have one grid, and this one's follow the size of "
            "the picture; use look_twice.form=improved"
        )
    return PublishedAdapter(
        settings=settings,
        level_dim=level_dim,
        final_dim=final_dim,
        num_levels=num_levels,
        num_tokens=num_tokens,
        project=project,
    )
