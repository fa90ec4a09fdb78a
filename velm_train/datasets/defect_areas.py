"""Area-like synthetic defects (hole, stain, color, bent, glue): a clean picture in, the painted picture out."""

import numpy as np
from scipy.ndimage import map_coordinates

from velm_train.datasets.defect_shapes import (
    Blob,
    Coverage,
    RGBFloat,
    blob,
    luminance,
    smooth_noise,
    smooth_step,
    unit_px,
)
from velm_train.datasets.defect_surface import Painted, Surface, blend, to_light

_TOWARDS_LIGHT_XY = (-0.6, -0.8)
"""Unit vector in the image plane towards the lamp: from the upper left, as on most inspection benches."""


def _towards_light(shape: Blob) -> Coverage:
    """Returns how far a point lies on the lamp's side of the centre, -1..1 at the outline."""
    return shape.dx * np.float32(_TOWARDS_LIGHT_XY[0]) + shape.dy * np.float32(_TOWARDS_LIGHT_XY[1])


def paint_hole(clean: RGBFloat, surface: Surface, rng: np.random.Generator) -> Painted:
    """A dark pit: the wall on the lamp's side lies in shadow, the far wall and the rim catch light."""
    size_hw = (clean.shape[0], clean.shape[1])
    radius = rng.uniform(10.0, 26.0) * unit_px(size_hw)
    shape = blob(rng, size_hw=size_hw, radius_px=radius, min_aspect=0.6, roughness=0.05)
    edge = 1.3 / max(shape.radius_px, 2.0)
    inside = smooth_step((1.0 - shape.radial) / np.float32(2 * edge) + 0.5)
    lit_side = (-_towards_light(shape)).clip(0.0, 1.0)
    ring = smooth_step(1.0 - np.abs(shape.radial - 1.0 - edge) / np.float32(2.2 * edge)) * (1.0 - inside)
    rim = ring * (np.float32(0.25) + np.float32(0.6) * lit_side)
    depth = np.float32(rng.uniform(0.86, 0.97)) - np.float32(0.4) * lit_side * smooth_step((shape.radial - 0.5) * 2)
    painted = blend(clean, surface.tone(1.2 * surface.visible_step), rim)
    painted = blend(painted, surface.mean_colour * 0.12, inside * depth)
    return Painted(image=painted, coverage=np.maximum(inside, rim))


_STAIN_TINTS = np.array([[0.62, 0.48, 0.30], [0.45, 0.45, 0.45], [0.55, 0.50, 0.38], [0.50, 0.42, 0.40]])
"""Share of light that coffee, oil, grease and rust let through in red, green, blue."""


def paint_stain(clean: RGBFloat, surface: Surface, rng: np.random.Generator) -> Painted:
    """Dried liquid: a soft mottled blot that lets the texture through, darker towards its drying edge."""
    size_hw = (clean.shape[0], clean.shape[1])
    unit = unit_px(size_hw)
    shape = blob(rng, size_hw=size_hw, radius_px=rng.uniform(17.0, 36.0) * unit, min_aspect=0.5, roughness=0.07)
    mottle = smooth_noise(rng, size_hw=size_hw, cell_px=9.0 * unit)
    spread = smooth_noise(rng, size_hw=size_hw, cell_px=0.55 * shape.radius_px)
    radial = shape.radial + np.float32(rng.uniform(0.25, 0.55)) * (spread - np.float32(0.4))
    drying_edge = np.float32(0.3) * smooth_step((radial - 0.55) / np.float32(0.25))
    body = smooth_step((1.0 - radial) / np.float32(0.3))
    amount = body * (np.float32(0.6) + np.float32(0.3) * mottle + drying_edge).clip(0.0, 1.0)
    strength = np.clip(rng.uniform(0.55, 0.8) + 0.8 * surface.contrast / max(surface.mean_luminance, 30.0), 0.5, 1.0)
    amount *= np.float32(strength)
    if surface.is_dark:
        residue = to_light(surface.mean_colour, 0.5)
        return Painted(image=blend(clean, residue, amount * np.float32(0.65)), coverage=amount)
    tint = rng.permutation(_STAIN_TINTS)[0].astype(np.float32)
    return Painted(image=clean * (1.0 - amount[..., None] * (1.0 - tint)), coverage=amount)


_PATCH_TINTS = np.array([[205, 60, 50], [60, 150, 75], [55, 95, 200], [215, 180, 40], [160, 70, 175], [40, 165, 170]])
"""Saturated pigments: red, green, blue, yellow, purple, teal."""


def paint_color(clean: RGBFloat, surface: Surface, rng: np.random.Generator) -> Painted:
    """A patch of another hue with a soft border: the brightness of the texture stays, its colour does not."""
    size_hw = (clean.shape[0], clean.shape[1])
    radius = rng.uniform(17.0, 40.0) * unit_px(size_hw)
    shape = blob(rng, size_hw=size_hw, radius_px=radius, min_aspect=0.6, roughness=0.06)
    tints = _PATCH_TINTS * (surface.mean_luminance / luminance(_PATCH_TINTS.astype(np.float32)[None])[0])[:, None]
    tint = rng.permutation(tints[surface.contrasting(tints)])[0]
    faded = 0.62 * tint + 0.38 * surface.mean_luminance
    faded *= min(1.0, 235.0 / float(faded.max()))  # a light surface has no room for a pigment as light as itself
    amount = shape.soft_inside(softness=0.5) * np.float32(rng.uniform(0.5, 0.75))
    brightness = luminance(clean) / np.float32(max(surface.mean_luminance, 1.0))
    lift = np.float32(1.0 if not surface.is_dark else 1.7)
    target = ((brightness * lift)[..., None] * faded.astype(np.float32)).clip(0.0, 255.0)
    return Painted(image=clean + amount[..., None] * (target - clean), coverage=amount)


def paint_bent(clean: RGBFloat, surface: Surface, rng: np.random.Generator) -> Painted:
    """A place where the surface is twisted: the texture swirls around a point and the bulge changes the shading."""
    size_hw = (clean.shape[0], clean.shape[1])
    radius = rng.uniform(27.0, 42.0) * unit_px(size_hw)
    shape = blob(rng, size_hw=size_hw, radius_px=radius, min_aspect=0.65, roughness=0.0)
    fade = (1.0 - shape.radial**2).clip(0.0, 1.0) ** 2
    angle = fade * np.float32(rng.choice([-1.0, 1.0]) * rng.uniform(1.3, 2.4))
    rows, columns = np.nonzero(fade > 0)
    y0, y1, x0, x1 = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    window = (slice(y0, y1), slice(x0, x1))
    dx, dy, turn = shape.dx[window], shape.dy[window], angle[window]
    from_x = dx * np.cos(turn) - dy * np.sin(turn) - dx
    from_y = dx * np.sin(turn) + dy * np.cos(turn) - dy
    grid_y, grid_x = np.mgrid[y0:y1, x0:x1].astype(np.float32)
    places = np.stack([grid_y + from_y * shape.radius_px, grid_x + from_x * shape.radius_px])
    painted = clean.copy()
    for channel in range(3):
        painted[window][..., channel] = map_coordinates(clean[..., channel], places, order=1, mode="nearest")
    relief = _towards_light(shape) * fade * np.float32(rng.choice([-1.0, 1.0]) * 2.2 * surface.visible_step)
    painted = (painted + relief[..., None]).clip(0.0, 255.0)
    return Painted(image=painted, coverage=(1.0 - shape.radial**2).clip(0.0, 1.0))


_GLUE_COLOURS = np.array([[238, 232, 205], [226, 202, 130], [236, 236, 236]], dtype=np.float64)
"""White glue, resin, silicone."""


def paint_glue(clean: RGBFloat, surface: Surface, rng: np.random.Generator) -> Painted:
    """A translucent drop or strip that bulges: a pale film, a dark refracting edge, a glossy highlight."""
    size_hw = (clean.shape[0], clean.shape[1])
    unit = unit_px(size_hw)
    strip = rng.random() < 0.4
    radius = (rng.uniform(19.0, 32.0) if strip else rng.uniform(13.0, 30.0)) * unit
    shape = blob(rng, size_hw=size_hw, radius_px=radius, min_aspect=0.25 if strip else 0.7, roughness=0.12)
    edge = max(2.4 / max(shape.radius_px, 2.0), 0.12)
    body = smooth_step((1.0 - shape.radial) / np.float32(edge * 0.6))
    border = body * smooth_step(1.0 - (1.0 - shape.radial) / np.float32(2.4 * edge))
    dome = np.sqrt((1.0 - shape.radial**2).clip(0.0, 1.0))
    film = body * np.float32(rng.uniform(0.38, 0.55))
    side = _towards_light(shape)
    near_lamp = (side - 0.42) ** 2 + (shape.dx * np.float32(0.8) - shape.dy * np.float32(0.6)) ** 2
    gloss = np.exp(-near_lamp / np.float32(0.022)) * body * (shape.radial < 0.85)
    painted = blend(clean, rng.permutation(_GLUE_COLOURS)[0], film)
    painted = painted * (1.0 - (np.float32(0.45) * border * (np.float32(0.6) - np.float32(0.4) * side))[..., None])
    painted = painted + (side * (1.0 - dome) * body * np.float32(0.5 * surface.visible_step))[..., None]
    painted = blend(painted, np.array([254.0, 254.0, 252.0]), (gloss * np.float32(1.4)).clip(0.0, 0.95))
    return Painted(image=painted.clip(0.0, 255.0), coverage=body)
