"""A batch padded on any side in, the same batch padded on the right out."""

import dataclasses

import torch

from velm_train.core.batch import Batch


def right_padded(batch: Batch) -> Batch:
    """Moves the real tokens of every row to the left, in their order; the evidence stays as it is.

    Args:
        batch: padded on the left, on the right, or both; returned itself if on the right already.
    """
    real = batch.attention_mask.bool()
    lengths = real.sum(dim=1, keepdim=True)
    if torch.equal(real, torch.arange(real.shape[1], device=real.device) < lengths):
        return batch
    order = (~real).int().argsort(dim=1, stable=True)
    return dataclasses.replace(
        batch,
        input_ids=batch.input_ids.gather(1, order),
        attention_mask=batch.attention_mask.gather(1, order),
        labels=batch.labels.gather(1, order),
    )
