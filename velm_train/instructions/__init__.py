"""Findings and a taxonomy in, instruction samples out; no tokenizer and no torch."""
