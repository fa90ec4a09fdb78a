"""Parts that differ by noise alone are not taken for copies, and copies among them are still told."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from velm_train.datasets.audit.copies import CERTAIN_CORRELATION, MAX_COPIED_FRACTION

HEIGHT, WIDTH = 104, 160


def stamped(number: int) -> np.ndarray:
    """Returns a part without a surface of its own: one outline, moved by whole pixels, under the camera's noise."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    dx, dy = rng.integers(-2, 3, 2)
    body = (np.abs(x - 80 - dx) < 56) & (np.abs(y - 52 - dy) < 32)
    holes = sum(((x - cx - dx) ** 2 + (y - 52 - dy) ** 2 < 64) for cx in (44, 116))
    image = gaussian_filter(60.0 + 110 * body - 130 * (holes > 0), 0.8) + rng.normal(0, 2, (HEIGHT, WIDTH))
    return np.repeat(np.rint(image).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


@pytest.fixture
def uniform(shelf):
    for number in range(24):
        shelf.add(f"plate/train/good/{number}.png", stamped(number), role="train")
    for number in range(24, 36):
        shelf.add(f"plate/test/good/{number}.png", stamped(number), role="test")
    return shelf


def test_parts_that_look_alike_by_nature_do_not_stop_training(uniform) -> None:
    near = [one for one in uniform.audit().findings if one.kind == "near"]
    alike = {image.image_id for one in near for image in one.images}
    assert len(alike) > MAX_COPIED_FRACTION * 36  # they do look alike
    assert {one.severity for one in near} == {"note"}
    assert all("copies cannot be told from like parts" in one.text for one in near)


def test_same_shot_saved_anew_is_a_leak_all_the_same(uniform) -> None:
    assert CERTAIN_CORRELATION < 1
    uniform.add("plate/test/good/again.jpg", stamped(5), role="test", quality=98)
    leaks = [one for one in uniform.audit().findings if one.severity == "leak"]
    assert any(
        {"d/plate/test/good/again.jpg", "d/plate/train/good/5.png"} <= {i.image_id for i in one.images} for one in leaks
    )
