"""A batch of bundles in, one row without padding and the attention that keeps its samples apart out."""
