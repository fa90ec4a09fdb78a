"""Good images: a woven surface and a part on a plain background, in colour and grey, never square."""

import numpy as np
import pytest

SIZE_HW = (96, 132)


def woven(seed: int, *, size_hw: tuple[int, int] = SIZE_HW, tint: tuple[float, ...] = (1.05, 0.95, 0.8)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    values = 130 + 25 * np.sin(y / 2.3 + seed) * np.cos(x / 3.1) + rng.normal(0, 6, size_hw)
    return (values[..., None] * np.array(tint)).clip(0, 255).astype(np.uint8)


def part(seed: int, *, size_hw: tuple[int, int] = (150, 190)) -> np.ndarray:
    """An ellipse of the weave on a light background."""
    background = np.random.default_rng(seed + 99).normal(225, 2, size_hw)[..., None] * np.ones(3)
    inside = ellipse(size_hw)
    picture = np.where(inside[..., None], woven(seed, size_hw=size_hw) * 0.8, background)
    return picture.clip(0, 255).astype(np.uint8)


def ellipse(size_hw: tuple[int, int]) -> np.ndarray:
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    return ((y - size_hw[0] / 2) / (0.3 * size_hw[0])) ** 2 + ((x - size_hw[1] / 2) / (0.36 * size_hw[1])) ** 2 < 1


@pytest.fixture(scope="session")
def surfaces() -> list[np.ndarray]:
    return [woven(seed) for seed in range(3)]


@pytest.fixture(scope="session")
def parts() -> list[np.ndarray]:
    return [part(seed) for seed in range(3)]


@pytest.fixture(scope="session")
def part_foreground() -> np.ndarray:
    return ellipse((150, 190))
