"""Evidence in, suspicion of every visual token in 0..1 out, from the detector's map, learned, both, or chance."""

import hashlib
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import nn

from velm_train.core.batch import VisionEvidence
from velm_train.models.look_twice.geometry import object_tokens, tiles_of_views
from velm_train.models.look_twice.matching import MAX_MARGIN, LookTwiceFeatureMatching

TokenScoreSource = Literal["map", "learned", "fused", "random", "off"]
"""Where token scores come from; "off" means that there is no adapter at all."""

LEARNED_SOURCES = ("learned", "fused")
"""Sources that hold a `LookTwiceFeatureMatching`."""


class TokenScores(nn.Module):
    """Scores tokens by one source.

    | source | score |
    |---|---|
    | map | sigmoid(steepness (map - 1)): 0.5 at the pixel threshold |
    | learned | significance of `LookTwiceFeatureMatching` |
    | fused | sigmoid(logit(learned) + prior_weight steepness (map - 1)) |
    | random | uniform draws seeded by the view's own features: a control that repeats for the same evidence |

    `map_scores` are in units of the pixel threshold. A view whose map is zero everywhere has none (a reference
    picture, say): its map logit is 0 at every token, which makes "map" uniform and "fused" equal "learned".
    """

    def __init__(
        self,
        *,
        source: TokenScoreSource,
        matching: LookTwiceFeatureMatching | None,
        steepness: float,
        prior_weight: float,
    ) -> None:
        """Takes the learned part for the sources that need it and none for the others.

        Args:
            source: any but "off".
            matching: given exactly if the source is "learned" or "fused".
            steepness: slope of the map's logit, per pixel threshold.
            prior_weight: weight of the map's logit in "fused".
        """
        super().__init__()
        assert source != "off", "without a source there is no adapter"
        assert (matching is not None) == (source in LEARNED_SOURCES), source
        self.source = source
        self.matching = matching
        self.steepness = steepness
        self.prior_weight = prior_weight

    def forward(self, evidence: VisionEvidence) -> Float[torch.Tensor, "T N"]:
        """Returns scores in 0..1, float32, 0 on padding."""
        valid = object_tokens(evidence)
        if self.source == "random":
            return random_scores(evidence)
        if self.matching is None:
            return torch.sigmoid(map_logits(evidence, steepness=self.steepness)) * valid
        learned: torch.Tensor = self.matching(evidence)
        if self.source == "learned":
            return learned
        prior = self.prior_weight * map_logits(evidence, steepness=self.steepness)
        logits = torch.logit(learned, eps=1e-6) + prior
        return torch.sigmoid(logits.clamp(-MAX_MARGIN, MAX_MARGIN)) * valid


def map_logits(evidence: VisionEvidence, *, steepness: float) -> Float[torch.Tensor, "T N"]:
    """Returns steepness (map - 1) within +-30, and 0 on every token of a view without a map."""
    logits = (steepness * (evidence.map_scores.float() - 1.0)).clamp(-MAX_MARGIN, MAX_MARGIN)
    return logits * _has_map(evidence)[evidence.view_index, None]


def _has_map(evidence: VisionEvidence) -> Bool[torch.Tensor, " I"]:
    tile_has_map = ((evidence.map_scores != 0) & object_tokens(evidence)).any(dim=1)
    return (tiles_of_views(evidence) & tile_has_map).any(dim=1)


def random_scores(evidence: VisionEvidence) -> Float[torch.Tensor, "T N"]:
    """Draws uniform scores that depend on the exact values of each view's object tokens and on nothing else."""
    valid = object_tokens(evidence)
    scores = torch.zeros(valid.shape)
    for tiles in tiles_of_views(evidence):
        chosen = valid & tiles[:, None]
        content = evidence.final[chosen].detach().float().cpu().contiguous()
        digest = hashlib.sha256(content.numpy().tobytes()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        scores[chosen.cpu()] = torch.rand(len(content), generator=generator)
    return scores.to(valid.device)
