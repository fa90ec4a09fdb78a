"""Logits, scores and targets go in; sums and class-balanced means of losses come out, in float32."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int

_SCORE_EPS = 1e-6
"""Scores are kept this far from 0 and 1, so that a logarithm stays finite."""


def image_loss_sum(
    image_logits: Float[torch.Tensor, " I"],
    view_anomalous: Float[torch.Tensor, " I"],
    *,
    pos_weight: float,
    view_weight: Float[torch.Tensor, " I"] | None = None,
) -> Float[torch.Tensor, ""]:
    """Returns the summed binary cross-entropy of the adapter's own anomaly score.

    Args:
        image_logits: one logit a view.
        view_anomalous: 1, 0, or NaN for views that are not scored.
        pos_weight: weight of anomalous views; normal over anomalous views of the training set balances the two.
        view_weight: how often each view counts; None for once.
    """
    scored = ~view_anomalous.isnan()
    return F.binary_cross_entropy_with_logits(
        image_logits[scored].float(),
        view_anomalous[scored].float(),
        weight=None if view_weight is None else view_weight[scored],
        pos_weight=torch.tensor(pos_weight, device=image_logits.device),
        reduction="sum",
    )


def mask_loss_sum(
    token_scores: Float[torch.Tensor, "T N"],
    gt_scores: Float[torch.Tensor, "T N"],
    *,
    valid: Bool[torch.Tensor, "T N"],
    view_index: Int[torch.Tensor, " T"],
    view_weight: Float[torch.Tensor, " I"] | None = None,
) -> Float[torch.Tensor, ""]:
    """Returns the sum over outlined views of focal plus Dice loss of the token scores against their masks.

    Focal loss (Lin et al., ICCV 2017, eq. 4, focusing 2, without alpha) is averaged over a view's tokens; Dice loss
    (Milletari et al., 3DV 2016, with plain sums and 1 added above and below) is taken over them together. Targets are
    shares of a token's area, so the focal term is its mean over the token's pixels.

    Args:
        token_scores: suspicion in 0..1.
        gt_scores: share of each token's area that is defect, NaN where nobody knows; a view with a NaN on one of its
            object tokens does not count.
        valid: False on padding, which does not count.
        view_index: the view that each tile belongs to.
        view_weight: how often each view counts; None for once.
    """
    known = view_index.new_ones(int(view_index.max()) + 1, dtype=torch.bool)
    known[view_index[(gt_scores.isnan() & valid).any(dim=1)]] = False
    counted = valid & known[view_index, None]
    scores = token_scores.float().clamp(_SCORE_EPS, 1 - _SCORE_EPS)
    targets = torch.where(counted, gt_scores.float(), 0.0)
    focal = -targets * (1 - scores) ** 2 * scores.log() - (1 - targets) * scores**2 * (1 - scores).log()

    def per_view(values: torch.Tensor) -> torch.Tensor:
        sums = torch.where(counted, values, 0.0).sum(dim=1)
        return torch.zeros(len(known), device=sums.device).index_add(0, view_index, sums)

    num_tokens = per_view(torch.ones_like(scores))
    overlap, total = per_view(scores * targets), per_view(scores + targets)
    dice = 1 - (2 * overlap + 1) / (total + 1)
    losses = per_view(focal) / num_tokens.clamp_min(1) + dice
    if view_weight is not None:
        losses = losses * view_weight
    return losses[known & (num_tokens > 0)].sum()


def balanced_pos_weight(num_normal: int, num_anomalous: int) -> float:
    """Returns the weight of anomalous views that gives both kinds the same total; 1 if a kind is absent."""
    return num_normal / num_anomalous if num_normal > 0 and num_anomalous > 0 else 1.0


def class_balanced_cross_entropy(
    logits: Float[torch.Tensor, "n classes"], targets: Int[torch.Tensor, " n"], keep: Bool[torch.Tensor, " n"]
) -> Float[torch.Tensor, ""]:
    """Returns the mean over the classes present of each class's mean cross-entropy; 0 if nothing is kept.

    Args:
        logits: one row a token.
        targets: class of each token; ignored where `keep` is False.
        keep: tokens that count.
    """
    chosen = targets[keep]
    losses = F.cross_entropy(logits[keep].float(), chosen, reduction="none")
    num_classes = logits.shape[1]
    counts = torch.bincount(chosen, minlength=num_classes)
    sums = torch.zeros(num_classes, device=losses.device).index_add(0, chosen, losses)
    return (sums / counts.clamp(min=1)).sum() / (counts > 0).sum().clamp(min=1)
