"""Bins, views and padding of ragged token grids."""

import pytest
import torch
from torch.nn import functional as F

from velm_train.models.look_twice.geometry import bounded, object_tokens, tiles_of_views, tokens_of_bins


@pytest.mark.parametrize(("rows", "columns", "pool"), [(3, 4, 2), (5, 2, 3), (1, 7, 2), (6, 6, 2), (27, 27, 2)])
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


def test_bounded_clamps_infinity_and_keeps_a_nan_visible():
    clamped = bounded(torch.tensor([float("inf"), -1e30, 3.0, float("nan")]))
    assert clamped[:3].tolist() == [1e6, -1e6, 3.0]
    assert clamped[3].isnan()
