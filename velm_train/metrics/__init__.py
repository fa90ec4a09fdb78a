"""Predictions go in, scores with intervals come out; knows neither models nor files."""
