"""Random shapes for synthetic defects: a generator and an image size in, coverage maps in 0..1 out."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32
from PIL import Image, ImageDraw

from velm_train.core.records import SizeHW

Coverage = Float32[np.ndarray, "h w"]
"""How much of each pixel a shape covers, 0..1."""

Points = Float[np.ndarray, "points 2"]
"""Polyline (x, y) in pixels."""

Colour = Float[np.ndarray, " 3"]
"""One RGB colour, 0..255."""

RGBFloat = Float32[np.ndarray, "H W 3"]
"""Picture in RGB order, 0..255 without rounding, so that several effects add up before they are rounded."""

REFERENCE_SIDE_PX = 286.0
"""Square root of 256 x 320: the image size at which lengths below are meant in pixels."""

_OVERSAMPLING = 3
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def unit_px(size_hw: SizeHW) -> float:
    """Returns how many pixels of this image stand for one pixel of the 256 x 320 reference size."""
    return float(np.sqrt(size_hw[0] * size_hw[1])) / REFERENCE_SIDE_PX


def luminance(image: RGBFloat) -> Coverage:
    """Returns the luma of ITU-R BT.601, 0..255, (H, W)."""
    luma: Coverage = image @ _LUMA
    return luma


def smooth_noise(rng: np.random.Generator, *, size_hw: SizeHW, cell_px: float) -> Coverage:
    """Returns smooth noise in 0..1 whose blots are about `cell_px` pixels wide."""
    rows, columns = (max(2, round(side / cell_px)) for side in size_hw)
    coarse = Image.fromarray(rng.integers(0, 256, size=(rows, columns), dtype=np.uint8))
    fine = coarse.resize((size_hw[1], size_hw[0]), Image.Resampling.BICUBIC)
    noise: Coverage = np.asarray(fine, dtype=np.float32) / np.float32(255.0)
    return noise


def place(points: Points, rng: np.random.Generator, *, size_hw: SizeHW, margin_px: float) -> Points:
    """Shifts a polyline to a random place where it lies inside the image, or centres it where it is too large."""
    low, high = points.min(axis=0), points.max(axis=0)
    room = np.array([size_hw[1], size_hw[0]]) - (high - low) - 2 * margin_px
    share = np.where(room > 0, rng.random(2), 0.5)
    placed: Points = points - low + margin_px + room * share
    return placed


def wander(rng: np.random.Generator, *, length_px: float, turn_rad: float, num_points: int) -> Points:
    """Returns a smooth curve that starts at the origin in a random direction.

    Args:
        rng: source of the direction and of the bends.
        length_px: length along the curve.
        turn_rad: how far the direction swings to either side of the first one, about.
        num_points: at least 2.
    """
    along = np.linspace(0.0, 1.0, num_points - 1)
    bends = rng.uniform(-1.0, 1.0, size=3)
    phases = rng.uniform(0.0, 2 * np.pi, size=2)
    swing = bends[0] * along + 0.6 * bends[1] * np.sin(2.2 * np.pi * along + phases[0])
    swing += 0.35 * bends[2] * np.sin(5.0 * np.pi * along + phases[1])
    heading = rng.uniform(0.0, 2 * np.pi) + turn_rad * swing
    steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * (length_px / (num_points - 1))
    return np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])


def jagged(rng: np.random.Generator, *, length_px: float, heading_rad: float, num_points: int) -> Points:
    """Returns a broken line from the origin: a straight run with a random kink at every point."""
    kinks = np.cumsum(rng.normal(0.0, 0.22, size=num_points - 1)) * 0.5 + rng.normal(0.0, 0.5, size=num_points - 1)
    heading = heading_rad + kinks
    lengths = rng.uniform(0.5, 1.5, size=num_points - 1) * (length_px / (num_points - 1))
    steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * lengths[:, None]
    return np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])


def stroke(points: Points, widths_px: Float[np.ndarray, " points"], *, size_hw: SizeHW) -> Coverage:
    """Draws a polyline with a width at every point, antialiased.

    Returns:
        Coverage (H, W); parts outside the image are cut off.
    """
    height, width = size_hw
    reach = float(widths_px.max()) + 2.0
    x0, y0 = np.floor(points.min(axis=0) - reach).astype(int).clip(0, [width, height])
    x1, y1 = np.ceil(points.max(axis=0) + reach).astype(int).clip(0, [width, height])
    covered = np.zeros(size_hw, dtype=np.float32)
    if x1 <= x0 or y1 <= y0:
        return covered
    fine = Image.new("L", (int(x1 - x0) * _OVERSAMPLING, int(y1 - y0) * _OVERSAMPLING))
    draw = ImageDraw.Draw(fine)
    scaled = (points - [x0, y0]) * _OVERSAMPLING
    for (xa, ya), (xb, yb), width_px in zip(scaled[:-1], scaled[1:], widths_px[1:], strict=True):
        thickness = max(1, round(float(width_px) * _OVERSAMPLING))
        draw.line((xa, ya, xb, yb), fill=255, width=thickness)
        radius = thickness / 2 - 0.5
        if radius >= 1.0:
            draw.ellipse((xb - radius, yb - radius, xb + radius, yb + radius), fill=255)
    covered[y0:y1, x0:x1] = np.asarray(fine.reduce(_OVERSAMPLING), dtype=np.float32) / np.float32(255.0)
    return covered


@dataclass(frozen=True, kw_only=True, slots=True)
class Blob:
    """A closed shape around a centre.

    Attributes:
        radial: distance from the centre in units of the outline's distance in that direction: below 1 inside.
        dx: signed horizontal distance from the centre over the shape's radius.
        dy: signed vertical distance from the centre over the shape's radius.
        radius_px: mean radius.
    """

    radial: Coverage
    dx: Coverage
    dy: Coverage
    radius_px: float

    def soft_inside(self, *, softness: float) -> Coverage:
        """Returns 1 inside, 0 outside, with a smooth border from radial 1 - softness to 1."""
        return smooth_step((1.0 - self.radial) / np.float32(softness))


def smooth_step(values: Coverage) -> Coverage:
    """Maps 0..1 to 0..1 with zero slope at both ends (3 t^2 - 2 t^3) and clips what lies outside."""
    t = values.clip(0.0, 1.0)
    stepped: Coverage = t * t * (3.0 - 2.0 * t)
    return stepped


def blob(rng: np.random.Generator, *, size_hw: SizeHW, radius_px: float, min_aspect: float, roughness: float) -> Blob:
    """Returns a random closed shape that lies inside the image.

    Args:
        rng: source of place, orientation, aspect and outline.
        size_hw: image size.
        radius_px: mean radius.
        min_aspect: the smallest ratio of short to long axis, in (0, 1].
        roughness: relative size of the outline's waves, 0 for an ellipse.
    """
    height, width = size_hw
    radius = min(radius_px, 0.42 * min(size_hw))
    margin = radius * 1.15 + 1.0
    centre_x, centre_y = rng.uniform(margin, width - margin), rng.uniform(margin, height - margin)
    aspect, angle = rng.uniform(min_aspect, 1.0), rng.uniform(0.0, np.pi)
    rows = (np.arange(height, dtype=np.float32) - np.float32(centre_y))[:, None] / np.float32(radius)
    columns = (np.arange(width, dtype=np.float32) - np.float32(centre_x))[None, :] / np.float32(radius)
    dx, dy = np.broadcast_arrays(columns, rows)
    along = (dx * np.cos(angle) + dy * np.sin(angle)).astype(np.float32) * np.float32(np.sqrt(aspect))
    across = (dy * np.cos(angle) - dx * np.sin(angle)).astype(np.float32) / np.float32(np.sqrt(aspect))
    distance = np.hypot(along, across)
    outline = np.ones(size_hw, dtype=np.float32)
    if roughness > 0:
        theta = np.arctan2(across, along)
        for harmonic in (2, 3, 5, 7):
            amplitude = roughness * rng.uniform(0.3, 1.0) / np.sqrt(harmonic)
            outline += np.float32(amplitude) * np.cos(harmonic * theta + np.float32(rng.uniform(0.0, 2 * np.pi)))
    return Blob(
        radial=distance / outline.clip(0.35, None),
        dx=np.ascontiguousarray(dx),
        dy=np.ascontiguousarray(dy),
        radius_px=radius,
    )
