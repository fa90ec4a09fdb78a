"""The object's patches: found where there is one, refused for textures, whole where nothing varies."""

import numpy as np
import torch

from velm_train.detectors.foreground import find_foreground

GRID = (12, 20)


def features(object_map: np.ndarray, *, seed: int = 0, noise: float = 0.3) -> torch.Tensor:
    """Eight channels: noise, and a direction of its own for the object."""
    generator = np.random.default_rng(seed)
    direction = np.array([3.0, -2.0, 0.5, 0.0, 1.0, 0.0, -1.0, 0.2])
    values = generator.normal(0, noise, (object_map.size, 8)) + object_map.reshape(-1, 1) * direction
    return torch.from_numpy(values.astype(np.float32))


def block(rows: slice, columns: slice) -> np.ndarray:
    cells = np.zeros(GRID, dtype=bool)
    cells[rows, columns] = True
    return cells


def test_object_in_the_middle_is_found_one_patch_wider():
    found = find_foreground(features(block(slice(3, 9), slice(5, 14))), GRID)
    assert found.separable
    np.testing.assert_array_equal(found.patches.numpy().reshape(GRID), block(slice(2, 10), slice(4, 15)))


def test_object_out_of_the_centre_is_found_as_well():
    found = find_foreground(features(block(slice(3, 7), slice(13, 17))), GRID)
    assert found.separable
    assert found.patches.sum() == 6 * 6


def test_holes_in_the_object_are_filled():
    cells = block(slice(3, 9), slice(5, 14))
    cells[5, 8] = False
    patches = find_foreground(features(cells), GRID).patches.reshape(GRID)
    assert bool(patches[5, 8])


def test_texture_and_half_covered_image_are_not_separable():
    generator = np.random.default_rng(1)
    texture = torch.from_numpy(generator.normal(0, 1, (240, 8)).astype(np.float32))
    assert not find_foreground(texture, GRID).separable
    assert not find_foreground(features(block(slice(0, 12), slice(0, 10))), GRID).separable
    checks = (np.indices(GRID).sum(axis=0) // 2 % 2).astype(bool)
    assert not find_foreground(features(checks), GRID).separable


def test_several_small_parts_are_not_one_object():
    cells = block(slice(2, 4), slice(2, 4)) | block(slice(2, 4), slice(9, 11)) | block(slice(8, 10), slice(15, 17))
    assert not find_foreground(features(cells), GRID).separable


def test_image_without_contrast_is_foreground_everywhere():
    found = find_foreground(torch.ones(240, 8), GRID)
    assert found.patches.all()
    assert not found.separable
