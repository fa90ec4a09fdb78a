"""Gated images and a model go in, predictions come out, next to those of baselines and control rows."""
