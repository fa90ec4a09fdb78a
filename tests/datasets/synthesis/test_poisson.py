"""The Poisson solver meets its equation, written out pixel by pixel and solved densely."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from velm_train.datasets.synthesis.poisson import solve_poisson

HEIGHT, WIDTH = 7, 9


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 255, (HEIGHT, WIDTH, 3)).astype(np.float32)


def ragged() -> np.ndarray:
    """A region with a hole that reaches the picture's edge."""
    inside = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
    inside[1:6, 0:5] = True
    inside[3, 2] = False
    inside[2, 5:7] = True
    return inside


def dense_solution(values, *, inside, known, guides) -> np.ndarray:
    """Perez et al. 2003, equations 7 and 12, one pixel, one neighbour and one channel after the other."""
    pixels = [tuple(p) for p in np.argwhere(inside)]
    solved = values.astype(np.float64)
    for channel in range(3):
        matrix, right = np.zeros((len(pixels), len(pixels))), np.zeros(len(pixels))
        for row, (y, x) in enumerate(pixels):
            for q in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if not (0 <= q[0] < HEIGHT and 0 <= q[1] < WIDTH and (inside[q] or known[q])):
                    continue
                matrix[row, row] += 1
                steps = [float(g[y, x, channel]) - float(g[*q, channel]) for g in guides]
                right[row] += max(steps, key=abs, default=0.0)
                if known[q]:
                    right[row] += float(values[*q, channel])
                else:
                    matrix[row, pixels.index(q)] -= 1
        for (y, x), value in zip(pixels, np.linalg.solve(matrix, right), strict=True):
            solved[y, x, channel] = value
    return solved


@pytest.mark.parametrize("num_guides", [0, 1, 2])
def test_solution_equals_a_dense_one(num_guides) -> None:
    inside = ragged()
    known = ~inside
    guides = [picture(seed) for seed in range(1, 1 + num_guides)]
    solved = solve_poisson(picture(0), inside=inside, known=known, guides=guides)
    expected = dense_solution(picture(0), inside=inside, known=known, guides=guides)
    assert np.allclose(solved, expected, atol=1e-3)
    assert np.array_equal(solved[~inside], picture(0)[~inside])


def test_pixels_that_are_neither_inside_nor_known_have_no_say() -> None:
    inside = ragged()
    known = np.zeros_like(inside)
    known[:, 7:] = True
    known[2, 7] = True
    solved = solve_poisson(picture(0), inside=inside, known=known, guides=[])
    expected = dense_solution(picture(0), inside=inside, known=known, guides=[])
    assert np.allclose(solved, expected, atol=1e-3)
    assert np.allclose(solved[inside], picture(0)[2, 7], atol=1e-3)  # one known neighbour: the region takes its colour


def test_a_region_without_a_known_neighbour_keeps_its_values() -> None:
    inside = ragged()
    known = np.zeros_like(inside)
    solved = solve_poisson(picture(0), inside=inside, known=known, guides=[picture(1)])
    assert np.array_equal(solved, picture(0))


def test_the_pictures_own_gradients_give_the_picture_back() -> None:
    inside = ragged()
    solved = solve_poisson(picture(0), inside=inside, known=binary_dilation(inside) & ~inside, guides=[picture(0)])
    assert np.allclose(solved, picture(0), atol=1e-3)


def test_an_offset_of_the_guide_has_no_effect() -> None:
    inside = ragged()
    one, other = (
        solve_poisson(picture(0), inside=inside, known=~inside, guides=[picture(1) + np.float32(offset)])
        for offset in (0, 40)
    )
    assert np.allclose(one, other, atol=1e-2)
