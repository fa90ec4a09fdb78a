"""A batch padded on any side in, the same batch padded on the right out."""

import dataclasses

from velm_train.core.batch import Batch
from velm_train.models.prefix import is_right_padded


def right_padded(batch: Batch) -> Batch:
    """Moves the real tokens of every row to the left, in their order; the evidence stays as it is.

    Args:
        batch: padded on the left, on the right, or both; returned itself if on the right already.
    """
    if is_right_padded(batch.attention_mask):
        return batch
    order = (batch.attention_mask == 0).int().argsort(dim=1, stable=True)
    return dataclasses.replace(
        batch,
        input_ids=batch.input_ids.gather(1, order),
        attention_mask=batch.attention_mask.gather(1, order),
        labels=batch.labels.gather(1, order),
    )
