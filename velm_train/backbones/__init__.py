"""RGB batches in, feature maps of named layers out: frozen encoders that detectors and models share."""
