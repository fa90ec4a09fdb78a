"""The temporary file of features gives back what was written, and leaves nothing behind."""

import shutil
import tempfile
from collections import namedtuple

import pytest
import torch

from velm_train.core.errors import ResourceError
from velm_train.detectors.feature_file import FeatureFile


@pytest.fixture
def values() -> torch.Tensor:
    return torch.randn(7, 12, 5, generator=torch.Generator().manual_seed(0))


def test_blocks_and_patches_are_exactly_what_was_appended(values):
    with FeatureFile(num_images=7) as features:
        for batch in (values[:3], values[3:4], values[4:]):
            features.append(batch)
        for num_images in (1, 2, 7, 100):
            blocks = list(features.blocks(num_images))
            assert [len(block) for block in blocks][:-1] == [num_images] * (len(blocks) - 1)
            assert torch.equal(torch.cat(blocks), values)
        assert all(torch.equal(features.image(index), values[index]) for index in (6, 0, 3))
        rows = torch.tensor([83, 0, 40, 40])
        assert torch.equal(features.patches(rows), values.flatten(0, 1)[rows])


def test_features_that_do_not_lie_in_one_piece_are_written_in_their_order(values):
    with FeatureFile(num_images=7) as features:
        features.append(values.transpose(1, 2).contiguous().transpose(1, 2))
        assert torch.equal(next(features.blocks(7)), values)


def test_nothing_is_left_on_the_disk(values, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with FeatureFile(num_images=7) as features:
        features.append(values)
    assert list(tmp_path.iterdir()) == []


def test_too_small_a_disk_is_refused_before_the_first_image_is_written(values, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**12, 0, 300 * 2**20))
    with (
        FeatureFile(num_images=10**6) as features,
        pytest.raises(ResourceError, match=r"240 MB needed.*TMPDIR"),
    ):
        features.append(values)
