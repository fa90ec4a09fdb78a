"""Pictures as they lie in their packages in, one tidy folder of them out."""

import shutil
from pathlib import Path

from velm_train.assets.registry import METAWORLD_PHOTOS, SKIMAGE_PHOTOS, TEXTILE_FOLDER
from velm_train.core.errors import AssetError
from velm_train.core.images import read_rgb, write_png

TEXTILE_COUNTS = {"nominal": 1000, "local": 500, "global": 500}
"""Pictures of each kind in the published set."""


def convert_textile(unpacked: Path, made: Path) -> None:
    """Moves the pictures, unchanged, to `images/<nominal|local|global>/`.

    Raises:
        AssetError: if a kind has not as many pictures as were published.
    """
    for kind, expected in TEXTILE_COUNTS.items():
        pictures = sorted((unpacked / TEXTILE_FOLDER / kind).glob("*.jpg"))
        if len(pictures) != expected:
            raise AssetError(f"textile_images: {len(pictures)} pictures of kind {kind!r}, expected {expected}")
        folder = made / "images" / kind
        folder.mkdir(parents=True)
        for picture in pictures:
            shutil.move(picture, folder / picture.name)


def convert_material_photos(unpacked: Path, made: Path) -> None:
    """Writes each photo as RGB to `images/<material>.png` at its own size; grey and palette files are converted."""
    members = {**METAWORLD_PHOTOS, **{name: member.path for name, member in SKIMAGE_PHOTOS.items()}}
    for name, path in members.items():
        write_png(read_rgb(unpacked / path), made / "images" / f"{name}.png")
