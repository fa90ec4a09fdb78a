"""Projected tokens have the length of word embeddings, and the first look is made of block means."""

import pytest
import torch
from torch.nn import functional as F

from velm_train.core.errors import ConfigError
from velm_train.models.embedded.projector import VisionProjector, check_first_look_grid, pool_first_look


def test_every_token_has_the_length_asked_for():
    projector = VisionProjector(source_dims=(4, 6), hidden_dim=8, out_dim=16, out_norm=2.5)
    tokens = projector(torch.randn(2, 3, 10))
    torch.testing.assert_close(tokens.norm(dim=-1), torch.full((2, 3), 2.5), atol=1e-3, rtol=0)


def test_sources_are_normalised_apart():
    projector = VisionProjector(source_dims=(4, 6), hidden_dim=8, out_dim=16, out_norm=1.0)
    final = torch.randn(2, 3, 10)
    louder = torch.cat([final[..., :4] * 100, final[..., 4:]], dim=-1)
    torch.testing.assert_close(projector(louder), projector(final), atol=1e-3, rtol=1e-3)


def test_cached_half_precision_features_are_accepted():
    projector = VisionProjector(source_dims=(4, 6), hidden_dim=8, out_dim=16, out_norm=1.0)
    assert projector(torch.randn(2, 3, 10).half()).dtype == torch.float32


def _pooled(fine, *, grids, first_look_grid, valid=None):
    valid = torch.ones(fine.shape[:2], dtype=torch.bool) if valid is None else valid
    return pool_first_look(fine, grid_hw=torch.tensor(grids), valid=valid, first_look_grid=first_look_grid)


def test_blocks_are_averaged_in_row_major_order():
    fine = torch.arange(16.0).reshape(1, 16, 1)
    assert _pooled(fine, grids=[[4, 4]], first_look_grid=2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    wide = torch.arange(8.0).reshape(1, 8, 1)
    assert _pooled(wide, grids=[[2, 4]], first_look_grid=2).flatten().tolist() == [0.5, 2.5, 4.5, 6.5]


def test_a_grid_of_the_same_size_is_left_as_it_is():
    fine = torch.randn(2, 9, 5)
    torch.testing.assert_close(_pooled(fine, grids=[[3, 3], [3, 3]], first_look_grid=3), fine)


def test_ragged_grids_are_averaged_as_adaptive_pooling_does_and_padding_does_not_count():
    fine = torch.randn(2, 15, 4)
    fine[0, 12:] = float("nan")  # beyond the first grid
    valid = torch.ones(2, 15, dtype=torch.bool)
    valid[0, 12:] = False
    pooled = _pooled(fine, grids=[[3, 4], [5, 3]], first_look_grid=2, valid=valid)
    for row, (height, width) in enumerate([(3, 4), (5, 3)]):
        feature_map = fine[row, : height * width].T.reshape(1, 4, height, width)
        expected = F.adaptive_avg_pool2d(feature_map, 2).flatten(2)[0].T
        torch.testing.assert_close(pooled[row], expected)
    valid[1, [0, 1, 3, 4, 6, 7]] = False  # all of the upper left cell, and parts of its neighbours
    pooled = _pooled(fine, grids=[[3, 4], [5, 3]], first_look_grid=2, valid=valid)
    assert pooled[1, 0].tolist() == [0.0] * 4
    torch.testing.assert_close(pooled[1, 1], fine[1, [2, 5, 8]].mean(dim=0))


@pytest.mark.parametrize("first_look_grid", [0, 4, 12])
def test_a_grid_that_does_not_divide_is_refused_with_those_that_do(first_look_grid):
    with pytest.raises(ConfigError, match="allowed: 1, 2, 3, 6"):
        check_first_look_grid(first_look_grid, token_grid=6)
