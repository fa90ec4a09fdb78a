"""Frozen vision encoders that detectors and models share."""
