"""Samples that begin alike in, the bundle that they make out."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from velm_train.collation.render import EncodedSample
from velm_train.core.batch import Batch, Bundle


@runtime_checkable
class Collator(Protocol):
    """Turns encoded samples into a batch."""

    def __call__(self, encoded: Sequence[EncodedSample], bundles: Sequence[Bundle] | None = None) -> Batch:
        """Returns the batch, of samples side by side or in bundles."""
        ...


def bundle_of(encoded: Sequence[EncodedSample], *, num_shared: int) -> Bundle:
    """Returns the bundle of samples that show the same views and have leading tokens in common.

    Args:
        encoded: at least one sample.
        num_shared: leading tokens that they have in common, the placeholders of all views among them; 0 for a sample
            by itself.
    """
    shared = encoded[0].input_ids[:num_shared]
    assert all(item.input_ids[:num_shared] == shared for item in encoded), [item.sample.sample_id for item in encoded]
    return Bundle(lengths=tuple(len(item.input_ids) for item in encoded), num_shared=num_shared)
