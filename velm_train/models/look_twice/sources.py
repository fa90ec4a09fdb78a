"""Evidence in, suspicion of every visual token in 0..1 out, from the detector's map, learned, both, or a control."""

import hashlib
import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import nn

from velm_train.core.batch import VisionEvidence
from velm_train.core.errors import ConfigError
from velm_train.models.look_twice.geometry import object_tokens, tiles_of_views, token_boxes
from velm_train.models.look_twice.matching import MAX_MARGIN, LookTwiceFeatureMatching

TokenScoreSource = Literal["map", "learned", "fused", "random", "centre", "oracle", "off"]
"""Where token scores come from; "off" means that there is no adapter at all."""

LEARNED_SOURCES = ("learned", "fused")
"""Sources that hold a `LookTwiceFeatureMatching`."""

_LOGIT_EPS = 1e-6
_UNKNOWN_SCORE = 0.5


class TokenScores(nn.Module):
    """Scores tokens by one source.

    | source | score |
    |---|---|
    | map | sigmoid(steepness (map - 1)): 0.5 at the pixel threshold |
    | learned | significance of `LookTwiceFeatureMatching` |
    | fused | sigmoid(logit(learned) + prior_weight steepness (map - 1)) |
    | random | uniform draws seeded by the view's own features: a control that repeats for the same evidence |
    | centre | 1 in the middle of the view, falling linearly to 0 in its corners: a control that never looks |
    | oracle | share of the token's area that is defect by the ground truth: a bound, marked in every report |

    `map_scores` are in units of the pixel threshold. A view whose map is zero everywhere has none (a reference
    picture, say): its map logit is 0 at every token, which makes "map" uniform and "fused" equal "learned".

    What the language model is taught to trust must be as good in training as it will be later. Map scores of training
    images are: every detection is made without the image and its part (`pipeline.views.MapSource` refuses any
    other). The learned part is not, it has been trained on the very views it scores; `score_noise` blurs it.
    """

    def __init__(
        self,
        *,
        source: TokenScoreSource,
        matching: LookTwiceFeatureMatching | None,
        steepness: float,
        prior_weight: float,
        score_noise: float = 0.0,
    ) -> None:
        """Takes the learned part for the sources that need it and none for the others.

        Args:
            source: any but "off".
            matching: given exactly if the source is "learned" or "fused".
            steepness: slope of the map's logit, per pixel threshold.
            prior_weight: weight of the map's logit in "fused".
            score_noise: standard deviation of Gaussian noise on the learned logit, in training only.
        """
        super().__init__()
        assert source != "off", "without a source there is no adapter"
        assert (matching is not None) == (source in LEARNED_SOURCES), source
        self.source = source
        self.matching = matching
        self.steepness = steepness
        self.prior_weight = prior_weight
        self.score_noise = score_noise

    def forward(self, evidence: VisionEvidence) -> Float[torch.Tensor, "T N"]:
        """Returns scores in 0..1, float32, 0 on padding.

        Raises:
            ConfigError: if the source is "oracle" and the evidence comes without ground truth.
        """
        if self.matching is not None:
            return self._learned_scores(evidence, self.matching)
        if self.source == "random":
            return random_scores(evidence)
        if self.source == "centre":
            return centre_scores(evidence)
        if self.source == "oracle":
            return oracle_scores(evidence)
        return torch.sigmoid(map_logits(evidence, steepness=self.steepness)) * object_tokens(evidence)

    def _learned_scores(
        self, evidence: VisionEvidence, matching: LookTwiceFeatureMatching
    ) -> Float[torch.Tensor, "T N"]:
        valid = object_tokens(evidence)
        learned: torch.Tensor = matching(evidence)
        if self.training and self.score_noise > 0:
            # As dropout does, from torch's own generator, which training seeds for every batch.
            noise = self.score_noise * torch.randn_like(learned)
            learned = torch.sigmoid(torch.logit(learned, eps=_LOGIT_EPS) + noise) * valid
        if self.source == "learned":
            return learned
        prior = self.prior_weight * map_logits(evidence, steepness=self.steepness)
        logits = torch.logit(learned, eps=_LOGIT_EPS) + prior
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


def centre_scores(evidence: VisionEvidence) -> Float[torch.Tensor, "T N"]:
    """Returns 1 less the distance of a token's middle from the view's, in units of the half diagonal.

    Distances count in fractions of the view's sides, so that every side's middle scores alike whatever the shape. A
    tile that shows all of its view has the view's centre; a crop scores by where in the view it lies.
    """
    boxes = token_boxes(evidence.grid_hw, num_tokens=evidence.valid.shape[1], tile_xyxy=evidence.tile_xyxy)
    middles = (boxes[..., :2] + boxes[..., 2:]) / 2  # (T, N, 2)
    distances: torch.Tensor = (middles - 0.5).norm(dim=-1) / math.sqrt(0.5)
    return (1.0 - distances).clamp(0.0, 1.0) * object_tokens(evidence)


def oracle_scores(evidence: VisionEvidence) -> Float[torch.Tensor, "T N"]:
    """Returns the ground truth on the token grid; 0.5, no preference, where nobody knows it.

    Raises:
        ConfigError: if the evidence comes without ground truth.
    """
    if evidence.gt_scores is None:
        raise ConfigError(
            "look-twice source is 'oracle', but these views come without ground-truth masks; use it on labelled data "
            "sets only, or choose another source (fused, map, learned)"
        )
    known = torch.where(evidence.gt_scores.isnan(), _UNKNOWN_SCORE, evidence.gt_scores.float())
    return torch.where(object_tokens(evidence), known.clamp(0.0, 1.0), 0.0)
