"""Bins, views and padding of ragged token grids."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from velm_train.models.look_twice.geometry import (
    bounded,
    by_view,
    global_tiles,
    object_tokens,
    tiles_of_views,
    token_boxes,
    tokens_of_bins,
)


@pytest.mark.parametrize(
    ("rows", "columns", "pool"), [(3, 4, 2), (5, 2, 3), (1, 7, 2), (6, 6, 2), (27, 27, 2), (64, 37, 5), (2, 3, 40)]
)
def test_bins_are_those_of_adaptive_average_pooling(rows, columns, pool):
    values = torch.randn(rows * columns)
    bins = tokens_of_bins(torch.tensor([[rows, columns]]), num_tokens=rows * columns + 3, pool=pool)[0].float()
    means = bins @ F.pad(values, (0, 3)) / bins.sum(dim=1)
    expected = F.adaptive_avg_pool2d(values.reshape(1, rows, columns), pool).flatten()
    torch.testing.assert_close(means, expected)
    assert not bins[:, rows * columns :].any()


def test_tokens_beyond_the_grid_are_not_object_even_if_marked_valid(make_evidence):
    evidence = make_evidence(num_tokens=14)
    evidence.valid[:] = True
    assert object_tokens(evidence).sum(dim=1).tolist() == [6, 12, 12]


def test_tiles_are_assigned_to_their_views(make_evidence):
    assert tiles_of_views(make_evidence()).tolist() == [[True, True, False], [False, False, True]]


def test_every_bin_is_the_range_of_rows_and_columns_that_adaptive_pooling_states():
    for size in range(1, 40):
        for pool in range(1, 8):
            found = tokens_of_bins(torch.tensor([[size, 1]]), num_tokens=size, pool=pool)[0, ::pool]
            for number in range(pool):
                inside = found[number].nonzero().flatten().tolist()
                assert inside == list(range(number * size // pool, -(-(number + 1) * size // pool)))


def test_a_crop_lies_in_the_bins_of_its_place():
    boxes = torch.tensor([[0.5, 0.0, 1.0, 0.5], [0.25, 0.25, 0.75, 0.75]])
    bins = tokens_of_bins(torch.tensor([[2, 3], [2, 2]]), num_tokens=6, pool=2, tile_xyxy=boxes)
    assert bins[0].tolist() == [[False] * 6, [True] * 6, [False] * 6, [False] * 6]
    assert bins[1].int().argmax(dim=1).tolist() == [0, 1, 2, 3]
    assert bins[1].sum(dim=1).tolist() == [1, 1, 1, 1]


def test_tokens_in_the_padding_around_a_view_lie_in_no_bin():
    boxes = torch.tensor([[0.0, -0.5, 1.0, 1.5]])  # a wide view with bars above and below
    bins = tokens_of_bins(torch.tensor([[4, 1]]), num_tokens=4, pool=1, tile_xyxy=boxes)
    assert bins[0, 0].tolist() == [False, True, True, False]


def test_boxes_of_tokens_are_fractions_of_the_view():
    whole = token_boxes(torch.tensor([[2, 4]]), num_tokens=8, tile_xyxy=None)
    assert whole[0, 6].tolist() == [0.5, 0.5, 0.75, 1.0]
    crop = token_boxes(torch.tensor([[2, 4]]), num_tokens=8, tile_xyxy=torch.tensor([[0.5, 0.0, 1.0, 0.5]]))
    assert crop[0, 6].tolist() == [0.75, 0.25, 0.875, 0.5]


def test_tokens_of_a_view_lie_end_to_end_in_the_order_of_its_tiles(make_evidence):
    evidence = make_evidence()
    values = torch.arange(36.0).reshape(3, 12)
    packed = by_view(values, evidence)
    assert packed.tolist() == [list(range(24)), [*range(24, 36), *[0] * 12]]
    assert by_view(values[..., None].expand(-1, -1, 2), evidence).shape == (2, 24, 2)
    one_each = dataclasses.replace(evidence, view_index=torch.arange(3))
    assert by_view(values, one_each) is values


def test_a_view_needs_exactly_one_tile_that_shows_all_of_it(make_evidence):
    evidence = make_evidence()
    assert global_tiles(evidence).tolist() == [1, 2]
    evidence.is_global[0] = True
    with pytest.raises(AssertionError, match="exactly one tile"):
        global_tiles(evidence)


def test_bounded_clamps_infinity_and_keeps_a_nan_visible():
    clamped = bounded(torch.tensor([float("inf"), -1e30, 3.0, float("nan")]))
    assert clamped[:3].tolist() == [1e6, -1e6, 3.0]
    assert clamped[3].isnan()
