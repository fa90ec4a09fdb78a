"""Hidden states and labels in, the language loss of the answers out, with logits at supervised positions alone."""

import torch
from jaxtyping import Float, Int
from torch.nn import functional as F

from velm_train.core.batch import IGNORE_INDEX
from velm_train.models.packing.layout import NO_PREDECESSOR, RowLayout
from velm_train.models.prefix import CausalLanguageModel, logits_of
from velm_train.models.protocol import LookTwiceOutput, TrainingOutput


def answer_loss(
    language_model: CausalLanguageModel,
    hidden: Float[torch.Tensor, "_ _ D"],
    labels: Int[torch.Tensor, "B P"],
    *,
    layout: RowLayout | None,
    look: LookTwiceOutput | None,
) -> TrainingOutput:
    """Returns the summed loss of a batch; only hidden states whose next token is supervised meet the output layer.

    Args:
        language_model: has the output layer.
        hidden: last hidden states (B, P, D), or (1, T, D) of a batch laid out as one row.
        labels: of the padded batch, unshifted.
        layout: of the row; None if there is none.
        look: what the look-twice adapter says about the batch's views, if there is an adapter and a view.
    """
    if layout is None:
        targets = labels[:, 1:]  # the one shift: position t predicts token t + 1
        supervised = targets != IGNORE_INDEX
        states, answers = hidden[:, :-1][supervised], targets[supervised]
    else:
        row = layout.pick(labels)[0]
        places = ((row != IGNORE_INDEX) & (layout.predecessor != NO_PREDECESSOR)).nonzero()[:, 0]
        states, answers = hidden[0, layout.predecessor[places]], row[places]
    return TrainingOutput(
        language_loss_sum=F.cross_entropy(logits_of(language_model, states), answers, reduction="sum"),
        num_supervised=len(answers),
        image_logits=None if look is None else look.image_logits,
        token_scores=None if look is None else look.token_scores,
    )
