"""The calibrated gate: anomaly scores in, decisions with a false-alarm guarantee out."""
