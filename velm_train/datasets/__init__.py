"""Folders and tables of images in, `ImageRecord`s, synthetic defects and split manifests out."""
