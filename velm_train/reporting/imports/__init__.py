"""Predictions of any system go in, in several file formats; checked `Prediction` rows come out."""
