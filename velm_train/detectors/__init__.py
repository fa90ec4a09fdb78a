"""Frozen unsupervised detectors: good images in, anomaly scores and maps out."""
