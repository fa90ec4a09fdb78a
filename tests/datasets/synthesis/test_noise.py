"""Gradient noise: range, continuity, zeros of the lattice; the grain estimate."""

import numpy as np
import pytest

from velm_train.datasets.synthesis.noise import add_grain, fractal_noise, grain_sigma, perlin_noise

SIZE_HW = (120, 170)


@pytest.mark.parametrize("cell_px", [3.0, 17.5, 400.0])
def test_noise_lies_in_its_range_for_every_cell_size(cell_px) -> None:
    noise = perlin_noise(np.random.default_rng(0), size_hw=SIZE_HW, cell_px=cell_px)
    assert noise.shape == SIZE_HW
    assert noise.dtype == np.float32
    assert np.abs(noise).max() <= 1.0
    assert noise.std() > 0.05


def test_noise_of_many_cells_uses_most_of_its_range_and_has_no_bias() -> None:
    noise = perlin_noise(np.random.default_rng(0), size_hw=(500, 600), cell_px=10.0)
    assert noise.max() > 0.85
    assert noise.min() < -0.85
    assert abs(noise.mean()) < 0.02


def test_noise_is_continuous_and_so_is_its_slope() -> None:
    noise = perlin_noise(np.random.default_rng(1), size_hw=SIZE_HW, cell_px=40.0)
    for axis in (0, 1):
        steps = np.diff(noise, axis=axis)
        assert np.abs(steps).max() < 5.0 / 40.0  # the steepest slope is below 5 per cell
        assert np.abs(np.diff(steps, axis=axis)).max() < 25.0 / 40.0**2


def test_noise_is_zero_at_lattice_points() -> None:
    noise = perlin_noise(FixedOffset(), size_hw=SIZE_HW, cell_px=16.0)
    assert np.abs(noise[::16, ::16]).max() < 1e-6
    assert np.abs(noise[8::16, 8::16]).max() > 0.2


class FixedOffset(np.random.Generator):
    """Puts the first lattice point on the first pixel."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def random(self, size: int) -> np.ndarray:
        return np.zeros(size)


def test_fractal_noise_lies_in_its_range_and_has_finer_detail() -> None:
    smooth, rough = (
        fractal_noise(np.random.default_rng(2), size_hw=SIZE_HW, cell_px=40.0, octaves=octaves) for octaves in (1, 5)
    )
    assert np.abs(rough).max() <= 1.0
    assert np.abs(np.diff(rough)).mean() / rough.std() > 1.5 * np.abs(np.diff(smooth)).mean() / smooth.std()


@pytest.mark.parametrize("sigma", [0.0, 1.5, 3.0])
def test_grain_is_measured_on_a_slope_and_beside_edges(sigma) -> None:
    slope = np.linspace(60, 150, 170)[None, :] + np.zeros((120, 1))
    slope[:, 80:] += 50
    noisy = slope + np.random.default_rng(0).normal(0, 1, SIZE_HW) * sigma
    clean = np.repeat(noisy[..., None], 3, axis=2).astype(np.float32)
    assert grain_sigma(clean) == pytest.approx(sigma, abs=0.15)


def test_grain_is_added_by_coverage() -> None:
    clean = np.random.default_rng(0).normal(100, 2, (*SIZE_HW, 1)).astype(np.float32) * np.ones(3, dtype=np.float32)
    coverage = np.zeros(SIZE_HW, dtype=np.float32)
    coverage[:, 85:] = 1.0
    flat = np.full_like(clean, 50.0)
    grainy = add_grain(flat, clean=clean, coverage=coverage, rng=np.random.default_rng(1))
    assert np.array_equal(grainy[:, :85], flat[:, :85])
    assert grainy[:, 85:].std() == pytest.approx(2.0, rel=0.1)
    assert np.array_equal(grainy[..., 0], grainy[..., 2])
