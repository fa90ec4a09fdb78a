"""Instruction samples in, token ids and padded batches out."""
