"""Labelled defects for users who have none: good images in, an MVTec-style set with exact masks out.

good image ──► foreground ──► operator or chain ──► exact mask ──► test/<type>/NNN.png, ground_truth/<type>/...
                              painters, cut_paste, perlin_texture, poisson_blend, missing_part, warp
"""
