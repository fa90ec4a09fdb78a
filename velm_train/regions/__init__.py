"""Regions: anomaly maps in, boxes, outlines, crops and pooled maps out."""
