"""Where a defect goes and where its pixels come from: a foreground in, a window with a shape, or moved pixels, out."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32
from scipy.ndimage import distance_transform_edt, map_coordinates

from velm_train.core.records import SizeHW
from velm_train.core.shapes import BoolMap
from velm_train.datasets.defect_shapes import Coverage, RGBFloat, smooth_step
from velm_train.datasets.defect_surface import Painted
from velm_train.datasets.synthesis.noise import fractal_noise

Matrix = Float[np.ndarray, "2 2"]
"""Linear map of (y, x) offsets in pixels."""

Offsets = Float32[np.ndarray, "h w"]
"""One coordinate of every pixel of a window, relative to a point."""

Point = tuple[float, float]
"""(y, x) in pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A window of the picture with a point in it.

    Attributes:
        rows: rows of the window.
        columns: columns of the window.
        dy: rows below the point, for every pixel of the window.
        dx: columns right of the point.
    """

    rows: slice
    columns: slice
    dy: Offsets
    dx: Offsets

    @property
    def window(self) -> tuple[slice, slice]:
        """Index of the window in an array (H, W, ...)."""
        return self.rows, self.columns


def place_at(point: Point, *, reach_px: float, size_hw: SizeHW) -> Place:
    """Returns the window that reaches `reach_px` to every side of a point, cut off at the picture's edge."""
    starts = [max(0, int(np.floor(at - reach_px))) for at in point]
    stops = [min(side, int(np.ceil(at + reach_px)) + 1) for at, side in zip(point, size_hw, strict=True)]
    y, x = (np.arange(start, stop, dtype=np.float32) for start, stop in zip(starts, stops, strict=True))
    dy, dx = np.meshgrid(y - np.float32(point[0]), x - np.float32(point[1]), indexing="ij")
    return Place(rows=slice(starts[0], stops[0]), columns=slice(starts[1], stops[1]), dy=dy, dx=dx)


def pick_point(where: BoolMap, rng: np.random.Generator) -> Point:
    """Returns a random pixel among those that are set; at least one is."""
    pixels = np.flatnonzero(where)
    y, x = divmod(int(pixels[rng.integers(len(pixels))]), where.shape[1])
    return float(y), float(x)


def deep_inside(where: BoolMap, *, depth_px: float) -> BoolMap:
    """Returns the pixels at least that far from the outside, or the deepest ones; the picture's edge does not count."""
    if where.all():
        return where
    depths = distance_transform_edt(where)
    deep: BoolMap = depths >= min(depth_px, 0.75 * float(depths.max()))
    return deep


def radius_of(foreground: BoolMap, *, area_fraction: float) -> float:
    """Returns the radius of a disc that covers a share of the foreground."""
    return float(np.sqrt(area_fraction * np.count_nonzero(foreground) / np.pi))


def rough_disc(place: Place, rng: np.random.Generator, *, radius_px: float, roughness: float) -> Coverage:
    """Returns a random closed shape around the place's point: 1 inside, 0 outside, with an edge about 2 pixels wide.

    Args:
        place: its window should reach at least 2 radii.
        rng: source of aspect, orientation and outline.
        radius_px: radius of a disc of about the same area.
        roughness: how far noise pushes the outline, in radii; 0 for an ellipse.
    """
    aspect, angle = rng.uniform(0.55, 1.0), rng.uniform(0.0, np.pi)
    along = place.dx * np.float32(np.cos(angle)) + place.dy * np.float32(np.sin(angle))
    across = place.dy * np.float32(np.cos(angle)) - place.dx * np.float32(np.sin(angle))
    distance = np.hypot(along * np.float32(np.sqrt(aspect)), across / np.float32(np.sqrt(aspect)))
    size_hw = (place.dy.shape[0], place.dy.shape[1])
    waves = fractal_noise(rng, size_hw=size_hw, cell_px=max(radius_px * 0.8, 2.0), octaves=3)
    inside_px = np.float32(radius_px) * (1.0 + np.float32(roughness) * waves) - distance
    return smooth_step(inside_px / np.float32(2.0) + np.float32(0.5))


def rotation(angle_rad: float, *, scale: float) -> Matrix:
    """Returns the map of offsets (y, x) that turns by an angle and enlarges by a factor."""
    cos, sin = scale * np.cos(angle_rad), scale * np.sin(angle_rad)
    return np.array([[cos, -sin], [sin, cos]])


def fetch(
    source: Float32[np.ndarray, "_ _ 3"], place: Place, *, centre: Point, matrix: Matrix
) -> Float32[np.ndarray, "h w 3"]:
    """Returns the source's pixels around `centre` on the grid of the place, mirrored where the source ends.

    Args:
        source: picture to take pixels from.
        place: where they go; its offsets are mapped by the matrix.
        centre: the source's point that comes to lie on the place's point.
        matrix: maps offsets in the place to offsets in the source.
    """
    y = matrix[0, 0] * place.dy + matrix[0, 1] * place.dx + centre[0]
    x = matrix[1, 0] * place.dy + matrix[1, 1] * place.dx + centre[1]
    channels = [map_coordinates(source[..., c], [y, x], order=1, mode="mirror") for c in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


def lay_over(clean: RGBFloat, pixels: Float32[np.ndarray, "h w 3"], coverage: Coverage, *, place: Place) -> Painted:
    """Returns the clean picture with other pixels laid over its window, by coverage."""
    image, whole = clean.copy(), np.zeros(clean.shape[:2], dtype=np.float32)
    image[place.window] += coverage[..., None] * (pixels - image[place.window])
    whole[place.window] = coverage
    return Painted(image=image.clip(0.0, 255.0), coverage=whole)
