"""Gradient noise and camera grain: a generator and a size in, smooth or grainy values out."""

import numpy as np
from scipy.ndimage import convolve

from velm_train.core.records import SizeHW
from velm_train.datasets.defect_shapes import Coverage, RGBFloat, luminance

_NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)
_MAX_GRAIN = 5.0
"""Grey levels; what exceeds it is texture, not sensor noise."""


def perlin_noise(rng: np.random.Generator, *, size_hw: SizeHW, cell_px: float) -> Coverage:
    """Returns gradient noise in -1..1 with lattice cells of `cell_px` pixels.

    Random unit gradients at the lattice points, blended by 6 t^5 - 15 t^4 + 10 t^3 (Perlin 2002, "Improving noise"),
    times the square root of 2, since unit gradients in the plane reach at most its inverse.

    Args:
        rng: source of the gradients and of the lattice's offset.
        size_hw: any height and width.
        cell_px: side of a cell, above 0.
    """
    height, width = size_hw
    start_y, start_x = rng.random(2)
    y = np.arange(height, dtype=np.float32) / np.float32(cell_px) + np.float32(start_y)
    x = np.arange(width, dtype=np.float32) / np.float32(cell_px) + np.float32(start_x)
    row, column = y.astype(np.int64), x.astype(np.int64)
    angles = rng.uniform(0.0, 2 * np.pi, size=(int(row[-1]) + 2, int(column[-1]) + 2)).astype(np.float32)
    gradient_y, gradient_x = np.sin(angles), np.cos(angles)
    ty, tx = (y - np.floor(y))[:, None], (x - np.floor(x))[None, :]

    def corner(dy: int, dx: int) -> Coverage:
        lattice = np.ix_(row + dy, column + dx)
        value: Coverage = gradient_y[lattice] * (ty - dy) + gradient_x[lattice] * (tx - dx)
        return value

    fade_y, fade_x = _fade(ty), _fade(tx)
    upper = corner(0, 0) * (1 - fade_x) + corner(0, 1) * fade_x
    lower = corner(1, 0) * (1 - fade_x) + corner(1, 1) * fade_x
    noise: Coverage = ((upper * (1 - fade_y) + lower * fade_y) * np.float32(np.sqrt(2.0))).clip(-1.0, 1.0)
    return noise


def _fade(t: Coverage) -> Coverage:
    faded: Coverage = t * t * t * (t * (t * 6 - 15) + 10)
    return faded


def fractal_noise(rng: np.random.Generator, *, size_hw: SizeHW, cell_px: float, octaves: int) -> Coverage:
    """Returns a weighted mean in -1..1 of gradient noise: every octave has half the cell and half the weight."""
    total = np.zeros(size_hw, dtype=np.float32)
    for octave in range(octaves):
        cell = max(cell_px / 2**octave, 1.5)
        total += perlin_noise(rng, size_hw=size_hw, cell_px=cell) * np.float32(0.5**octave)
    return total / np.float32(2.0 - 0.5 ** (octaves - 1))


def grain_sigma(clean: RGBFloat) -> float:
    """Estimates the standard deviation of the sensor noise in grey levels, 0 to 5.

    The median of the absolute response to a kernel that is blind to planes (Immerkaer 1996, "Fast noise variance
    estimation", with a median in place of the mean, so that edges do not count).
    """
    response = np.abs(convolve(luminance(clean), _NOISE_KERNEL, mode="reflect"))
    return float(min(np.median(response) / (0.6745 * 6.0), _MAX_GRAIN))


def add_grain(painted: RGBFloat, *, clean: RGBFloat, coverage: Coverage, rng: np.random.Generator) -> RGBFloat:
    """Returns the painted picture with the clean one's grain where paint has covered it."""
    grain = rng.standard_normal(clean.shape[:2], dtype=np.float32) * np.float32(grain_sigma(clean))
    grainy: RGBFloat = painted + (grain * coverage)[..., None]
    return grainy
