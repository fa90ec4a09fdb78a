"""Logits and targets go in; sums and class-balanced means of losses come out, in float32."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int


def image_loss_sum(
    image_logits: Float[torch.Tensor, " I"], view_anomalous: Float[torch.Tensor, " I"], *, pos_weight: float
) -> Float[torch.Tensor, ""]:
    """Returns the summed binary cross-entropy of the adapter's own anomaly score.

    Args:
        image_logits: one logit a view.
        view_anomalous: 1, 0, or NaN for views that are not scored.
        pos_weight: weight of anomalous views; normal over anomalous views of the training set balances the two.
    """
    scored = ~view_anomalous.isnan()
    return F.binary_cross_entropy_with_logits(
        image_logits[scored].float(),
        view_anomalous[scored].float(),
        pos_weight=torch.tensor(pos_weight, device=image_logits.device),
        reduction="sum",
    )


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
