"""Line-like synthetic defects (scratch, crack, thread): a clean picture in, the painted picture out."""

import numpy as np

from velm_train.datasets.defect_shapes import (
    Coverage,
    Points,
    RGBFloat,
    jagged,
    place,
    stroke,
    unit_px,
    wander,
)
from velm_train.datasets.defect_surface import Painted, Surface, blend, to_light

_SHADOW_SHIFT_PX = 2


def paint_scratch(clean: RGBFloat, surface: Surface, rng: np.random.Generator) -> Painted:
    """A thin groove, bright or dark, with the opposite tone along the edge that faces away from the light."""
    size_hw = (clean.shape[0], clean.shape[1])
    unit = unit_px(size_hw)
    points = wander(rng, length_px=rng.uniform(90.0, 210.0) * unit, turn_rad=rng.uniform(0.05, 0.5), num_points=24)
    points = place(points, rng, size_hw=size_hw, margin_px=3.0)
    pressure = 0.75 + 0.25 * np.sin(np.linspace(0.0, rng.uniform(2.0, 6.0), 24) + rng.uniform(0.0, 6.0))
    taper = np.minimum(1.0, 4.0 * np.minimum(np.linspace(0.0, 1.0, 24), np.linspace(1.0, 0.0, 24)) + 0.35)
    widths = np.maximum(1.1, rng.uniform(2.2, 3.4) * unit * pressure * taper)
    strength = rng.uniform(0.85, 1.25)
    bright = surface.mean_luminance < 110.0 or (surface.mean_luminance < 190.0 and rng.random() < 0.65)
    step = surface.visible_step * strength
    groove = stroke(points, widths, size_hw=size_hw)
    edge = stroke(points + 1.4 * max(1.0, unit), widths * 0.55, size_hw=size_hw) * (1.0 - groove)
    painted = blend(clean, surface.tone(step if bright else -step), groove * np.float32(0.88))
    painted = blend(painted, surface.tone(-0.7 * step if bright else 0.7 * step), edge * np.float32(0.6))
    return Painted(image=painted, coverage=np.maximum(groove * np.float32(0.88), edge * np.float32(0.6)))


def _crack_branches(rng: np.random.Generator, *, unit: float) -> list[tuple[Points, float]]:
    """Returns polylines with the width in pixels at their root; the first is the trunk, rooted at the origin."""
    heading = rng.uniform(0.0, 2 * np.pi)
    trunk = jagged(rng, length_px=rng.uniform(70.0, 190.0) * unit, heading_rad=heading, num_points=18)
    width = rng.uniform(2.6, 3.6) * max(unit, 0.5)
    branches = [(trunk, width)]
    for side in rng.permutation([-1.0, 1.0, -1.0, 1.0])[: rng.integers(2, 5)]:
        root = trunk[rng.integers(3, 15)]
        length = rng.uniform(25.0, 65.0) * unit
        turned = heading + side * rng.uniform(0.5, 1.1)
        branch = jagged(rng, length_px=length, heading_rad=turned, num_points=9)
        branches.append((branch + root, width * 0.65))
    return branches


def paint_crack(clean: RGBFloat, surface: Surface, rng: np.random.Generator) -> Painted:
    """A dark jagged line that branches and thins out, with a chipped light edge."""
    size_hw = (clean.shape[0], clean.shape[1])
    branches = _crack_branches(rng, unit=unit_px(size_hw))
    joined = np.concatenate([points for points, _ in branches])
    offset = place(joined, rng, size_hw=size_hw, margin_px=3.0)[0] - joined[0]
    gap: Coverage = np.zeros(size_hw, dtype=np.float32)
    chip: Coverage = np.zeros(size_hw, dtype=np.float32)
    for points, root_width in branches:
        widths = np.maximum(0.9, np.linspace(root_width, root_width * 0.35, len(points)))
        widths *= rng.uniform(0.7, 1.25, size=len(points))
        gap = np.maximum(gap, stroke(points + offset, widths, size_hw=size_hw))
        chip = np.maximum(chip, stroke(points + offset + 1.3, widths * 0.8, size_hw=size_hw))
    chip *= (1.0 - gap) * np.float32(0.9 if surface.is_dark else 0.4)
    gap *= np.float32(rng.uniform(0.82, 0.95))
    painted = blend(clean, surface.tone(surface.visible_step), chip)
    painted = blend(painted, surface.mean_colour * 0.16, gap)
    return Painted(image=painted, coverage=np.maximum(gap, chip))


_THREAD_COLOURS = np.array(
    [[225, 222, 214], [28, 28, 32], [186, 40, 44], [36, 84, 170], [38, 128, 70], [206, 168, 52], [120, 60, 130]],
    dtype=np.float64,
)


def paint_thread(clean: RGBFloat, surface: Surface, rng: np.random.Generator) -> Painted:
    """A loose fibre lying on the surface: one colour, round in cross-section, curled, with a soft shadow beside it."""
    size_hw = (clean.shape[0], clean.shape[1])
    unit = unit_px(size_hw)
    colour = rng.permutation(_THREAD_COLOURS[surface.contrasting(_THREAD_COLOURS)])[0]
    points = wander(rng, length_px=rng.uniform(110.0, 240.0) * unit, turn_rad=rng.uniform(1.6, 3.4), num_points=48)
    points = place(points, rng, size_hw=size_hw, margin_px=4.0)
    width = max(1.5, rng.uniform(2.4, 3.4) * unit)
    body = stroke(points, np.full(48, width), size_hw=size_hw)
    ridge = stroke(points - 0.25 * width, np.full(48, max(0.8, 0.4 * width)), size_hw=size_hw)
    below = stroke(points + _SHADOW_SHIFT_PX * max(1.0, unit), np.full(48, width * 1.3), size_hw=size_hw)
    shadow = below * (1.0 - body) * np.float32(0.38)
    painted = blend(clean, surface.mean_colour * 0.1, shadow)
    painted = blend(painted, colour * 0.82, body * np.float32(0.95))
    painted = blend(painted, to_light(colour, 0.45), ridge * body * np.float32(0.7))
    return Painted(image=painted, coverage=np.maximum(body, shadow))
