"""A part on a plain background is found; a surface is none."""

import numpy as np
import pytest

from velm_train.datasets.synthesis.foreground import find_foreground


def overlap(found: np.ndarray, true: np.ndarray) -> float:
    return float((found & true).sum() / (found | true).sum())


def test_a_part_on_a_plain_background_is_found(parts, part_foreground) -> None:
    for good in parts:
        found = find_foreground(good)
        assert found is not None
        assert overlap(found, part_foreground) > 0.95


def test_a_large_picture_gives_a_foreground_of_its_own_size(parts, part_foreground) -> None:
    large = parts[0].repeat(4, axis=0).repeat(4, axis=1)
    found = find_foreground(large)
    assert found is not None
    assert overlap(found, part_foreground.repeat(4, axis=0).repeat(4, axis=1)) > 0.95


def test_holes_of_the_part_belong_to_it(parts, part_foreground) -> None:
    pierced = parts[0].copy()
    pierced[70:80, 90:100] = 225
    found = find_foreground(pierced)
    assert found is not None
    assert found[70:80, 90:100].all()


@pytest.mark.parametrize("kind", ["weave", "noise", "flat", "slope", "split"])
def test_a_surface_has_no_foreground(kind, surfaces) -> None:
    rng = np.random.default_rng(0)
    pictures = {
        "weave": surfaces[0],
        "noise": rng.normal(120, 30, (90, 140, 3)).clip(0, 255).astype(np.uint8),
        "flat": np.full((90, 140, 3), 200, dtype=np.uint8),
        "slope": np.broadcast_to(np.linspace(40, 220, 140)[None, :, None], (90, 140, 3)).astype(np.uint8),
        "split": np.repeat(np.repeat([[40, 200]], 90, axis=0).repeat(70, axis=1)[..., None], 3, axis=2).astype(
            np.uint8
        ),
    }
    assert find_foreground(pictures[kind]) is None
