"""Views in, PNG files named by their content out: other trainers cannot cut out a box or draw a contour."""

import hashlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from velm_train.core.errors import DataError
from velm_train.core.hashing import sha256_file
from velm_train.core.images import write_png
from velm_train.core.records import View
from velm_train.core.shapes import RGBImage

PICTURES_FOLDER = "images"
"""Folder beside the records."""

_UNNAMED = ".picture.png"


class PictureFolder:
    """Writes every distinct view once; views with the same pixels share a file."""

    def __init__(self, folder: Path, *, render: Callable[[View], RGBImage]) -> None:
        """Remembers where the pictures go; nothing is written yet.

        Args:
            folder: of the export; pictures lie in its folder PICTURES_FOLDER.
            render: turns the recipe of a view into pixels.
        """
        self._folder = folder
        self._render = render
        self._names: dict[tuple[object, ...], str] = {}

    def add(self, view: View) -> str:
        """Writes a view unless it is there already and returns its path relative to the folder.

        Raises:
            DataError: if the image cannot be read.
            ResourceError: if the picture cannot be written.
        """
        recipe = (view.sha256, view.box_xyxy, tuple(map(tuple, view.contour.tolist())))
        if recipe not in self._names:
            unnamed = self._folder / PICTURES_FOLDER / _UNNAMED
            write_png(self._render(view), unnamed)
            name = f"{PICTURES_FOLDER}/{sha256_file(unnamed)}.png"
            unnamed.replace(self._folder / name)
            self._names[recipe] = name
        return self._names[recipe]


def require_picture(payload: bytes, name: str, *, where: str) -> None:
    """Checks that a picture is the one its name promises.

    Args:
        payload: the PNG file's bytes.
        name: the path that `PictureFolder.add` gave it.
        where: the record, for the message.

    Raises:
        DataError: if the content is another.
    """
    if hashlib.sha256(payload).hexdigest() != PurePosixPath(name).stem:
        raise DataError(f"{where}: the picture {name} is not the one that was exported; export the samples again")


def require_picture_file(folder: Path, name: str, *, where: str) -> None:
    """Checks that a picture file is there and is the one its name promises.

    Raises:
        DataError: if it is not.
    """
    try:
        payload = (folder / name).read_bytes()
    except OSError as error:
        raise DataError(
            f"{where}: the picture {name} cannot be read ({error.strerror}); export the samples again"
        ) from error
    require_picture(payload, name, where=where)
