"""Pictures go in; each with turned copies of itself comes out, read and turned only when asked for."""

import math
from collections.abc import Sequence
from typing import overload

import torch
import torch.nn.functional as F

from velm_train.core.shapes import RGBImage
from velm_train.detectors.protocol import RGBImages


def turned(image: RGBImage, *, degrees: float) -> RGBImage:
    """Returns the picture turned counter-clockwise about its centre; what comes in from outside is mirrored.

    Args:
        image: of any shape, which is kept.
        degrees: any angle.
    """
    height, width = image.shape[:2]
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # The grid's coordinates run from -1 to 1 along both sides, so that the aspect enters where the axes mix.
    theta = torch.tensor([[cosine, -sine * height / width, 0], [sine * width / height, cosine, 0]], dtype=torch.float32)
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
    grid = F.affine_grid(theta[None], list(pixels.shape), align_corners=False)
    found = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    picture: RGBImage = found[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()
    return picture


class TurnedCopies(Sequence[RGBImage]):
    """Every picture in several directions, evenly over the circle: copy c of picture i has number i * copies + c."""

    def __init__(self, images: RGBImages, *, num_rotations: int) -> None:
        """Remembers the pictures; none is read.

        Args:
            images: read on access, once for every copy.
            num_rotations: copies of each, the first one unturned.
        """
        self._images = images
        self._num_rotations = num_rotations

    def __len__(self) -> int:
        return len(self._images) * self._num_rotations

    @overload
    def __getitem__(self, index: int) -> RGBImage: ...

    @overload
    def __getitem__(self, index: slice) -> list[RGBImage]: ...

    def __getitem__(self, index: int | slice) -> RGBImage | list[RGBImage]:
        """Reads one picture and turns it, or does so for every number of a slice."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        image_number, copy = divmod(range(len(self))[index], self._num_rotations)
        image = self._images[image_number]
        return turned(image, degrees=360 * copy / self._num_rotations) if copy else image
