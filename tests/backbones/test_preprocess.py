"""The shared resize: exact where nothing changes, hand-computed where something does."""

import numpy as np
import pytest
import torch

from velm_train.backbones.preprocess import resize_batch
from velm_train.core.errors import DataError


def test_picture_of_the_right_size_keeps_its_values():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    batch = resize_batch([image], (5, 7))
    assert batch.dtype == torch.float32
    np.testing.assert_array_equal((batch[0].permute(1, 2, 0) * 255).round().numpy(), image)


def test_halving_is_the_triangle_filter():
    # One output pixel sees source centres at distances 0.5, 0.5 and 1.5 of a triangle of half-width 2.
    row = np.array([10, 100, 200, 40], dtype=np.uint8)
    image = np.repeat(row[None, :, None], 2, axis=0).repeat(3, axis=2)  # (2, 4, 3)
    batch = resize_batch([image], (2, 2))
    left = (0.75 * 10 + 0.75 * 100 + 0.25 * 200) / 1.75
    right = (0.25 * 100 + 0.75 * 200 + 0.75 * 40) / 1.75
    torch.testing.assert_close(batch[0, 0, 0] * 255, torch.tensor([left, right]))


def test_fine_stripes_do_not_alias():
    image = np.zeros((64, 96, 3), dtype=np.uint8)
    image[:, ::2] = 254
    batch = resize_batch([image], (16, 24))
    torch.testing.assert_close(batch[..., 2:-2] * 255, torch.full((1, 3, 16, 20), 127.0))


def test_channels_and_order_are_kept():
    red, blue = np.zeros((4, 6, 3), dtype=np.uint8), np.zeros((8, 3, 3), dtype=np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    batch = resize_batch([red, blue], (3, 5))
    assert batch.shape == (2, 3, 3, 5)
    assert batch.mean(dim=(2, 3)).tolist() == [[1, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("images", [[], [np.zeros((0, 4, 3), dtype=np.uint8)]])
def test_nothing_to_resize_is_refused(images):
    with pytest.raises(DataError, match="every picture needs pixels"):
        resize_batch(images, (4, 6))
