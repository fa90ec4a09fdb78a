"""Sizes that DeepSpeed's memory depends on, for those who must not import it."""

BUCKET_ELEMENTS = 50_000_000
"""Gradients, or weights, that are sent together; DeepSpeed's own choice would take 2 GB."""
