"""Predictions, scores and small pictures go in; files that people and programs read come out."""
