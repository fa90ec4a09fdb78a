"""Nearest neighbours, against scikit-learn, and the paper's score weight written out."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from velm_train.detectors import neighbours
from velm_train.detectors.neighbours import MemoryBank, nearest


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_nearest_equals_scikit_learn(offset):
    generator = np.random.default_rng(0)
    bank = (generator.standard_normal((900, 37)) + offset).astype(np.float32)
    queries = (generator.standard_normal((5000, 37)) + offset).astype(np.float32)
    reference = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(bank.astype(np.float64))
    expected_distances, expected_rows = reference.kneighbors(queries.astype(np.float64))
    distances, rows = nearest(torch.from_numpy(queries), torch.from_numpy(bank))
    np.testing.assert_allclose(distances.numpy(), expected_distances[:, 0], rtol=1e-5)
    assert (rows.numpy() == expected_rows[:, 0]).mean() > 0.999


def test_distance_to_a_bank_vector_itself_is_exactly_zero():
    bank = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    distances, rows = nearest(bank[[3, 17]], bank)
    assert distances.tolist() == [0.0, 0.0]
    assert rows.tolist() == [3, 17]


def test_weight_equals_the_equation_written_out():
    bank = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [9.0, 9.0]])
    query = torch.tensor([0.0, -1.0])
    distances = np.array([1.0, np.sqrt(2), 3.0])  # to m* = row 0 and its two nearest bank vectors
    expected = 1 - np.exp(distances[0]) / np.exp(distances).sum()
    weight = MemoryBank(bank, channels=[2]).neighbourhood_weight(
        query, nearest_row=0, num_neighbours=3, scales=torch.ones(1)
    )
    assert weight == pytest.approx(expected, rel=1e-6)


def test_weight_uses_all_vectors_of_a_small_bank():
    bank = torch.tensor([[0.0], [1.0]])
    expected = 1 - np.exp(1) / (np.exp(1) + np.exp(2))
    weight = MemoryBank(bank, channels=[1]).neighbourhood_weight(
        torch.tensor([-1.0]), nearest_row=0, num_neighbours=9, scales=torch.ones(1)
    )
    assert weight == pytest.approx(expected)


def test_layer_scales_and_left_out_vectors_are_as_if_the_bank_were_scaled_and_smaller():
    generator = np.random.default_rng(2)
    vectors = (generator.standard_normal((300, 11)) * ([1.0] * 4 + [50.0] * 7) + 5).astype(np.float32)
    queries = (generator.standard_normal((90, 11)) * ([1.0] * 4 + [50.0] * 7) + 5).astype(np.float32)
    left_out = generator.random(300) < 0.4
    factors = np.array([1.0] * 4 + [0.02] * 7)
    reference = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(vectors[~left_out] * factors)
    expected_distances, expected_rows = reference.kneighbors(queries * factors)
    bank = MemoryBank(torch.from_numpy(vectors), channels=[4, 7])
    choice = {"scales": torch.tensor([1.0, 0.02]), "left_out": torch.from_numpy(left_out)}
    distances, rows = bank.nearest(torch.from_numpy(queries), **choice)
    np.testing.assert_allclose(distances.numpy(), expected_distances[:, 0], rtol=1e-5)
    assert rows.tolist() == np.flatnonzero(~left_out)[expected_rows[:, 0]].tolist()

    nearest_vector = vectors[rows[0]] * factors
    (crowd,) = reference.kneighbors(nearest_vector[None], return_distance=False)
    to_crowd = np.linalg.norm((vectors[~left_out] * factors)[crowd] - queries[0] * factors, axis=1)
    weight = bank.neighbourhood_weight(
        torch.from_numpy(queries[0]), nearest_row=int(rows[0]), num_neighbours=5, **choice
    )
    assert weight == pytest.approx(1 - np.exp(expected_distances[0, 0]) / np.exp(to_crowd).sum(), rel=1e-5)


def test_weight_never_counts_a_left_out_vector():
    bank = MemoryBank(torch.tensor([[0.0], [0.5], [1.0]]), channels=[1])
    expected = 1 - np.exp(1) / (np.exp(1) + np.exp(2))
    weight = bank.neighbourhood_weight(
        torch.tensor([-1.0]),
        nearest_row=0,
        num_neighbours=9,
        scales=torch.ones(1),
        left_out=torch.tensor([False, True, False]),
    )
    assert weight == pytest.approx(expected)


def test_equal_vectors_and_queries_have_distance_zero_under_any_scales():
    vectors = torch.full((40, 6), 3.7)
    distances, rows = MemoryBank(vectors, channels=[2, 4]).nearest(vectors[:5], scales=torch.tensor([0.3, 7.1]))
    assert distances.tolist() == [0.0] * 5
    assert bool((rows < 40).all())


def test_two_nearest_groups_equal_a_search_of_each_group(monkeypatch):
    monkeypatch.setattr(neighbours, "_BLOCK_ROWS", 16)
    generator = np.random.default_rng(4)
    vectors = generator.standard_normal((120, 6)).astype(np.float32)
    queries = generator.standard_normal((50, 6)).astype(np.float32)
    groups = generator.integers(0, 5, 120)
    scales = np.array([2.0, 2.0, 2.0, 0.5, 0.5, 0.5])
    of_group = np.stack(
        [
            np.linalg.norm((queries[:, None] - vectors[None, groups == group]) * scales, axis=2).min(axis=1)
            for group in range(5)
        ],
        axis=1,
    )
    of_group[:, 3] = np.inf
    expected = np.sort(of_group, axis=1)
    first, group, second = MemoryBank(torch.from_numpy(vectors), channels=[3, 3]).nearest_of_two_groups(
        torch.from_numpy(queries), scales=torch.tensor([2.0, 0.5]), groups=torch.from_numpy(groups), left_out=3
    )
    np.testing.assert_allclose(first.numpy(), expected[:, 0], rtol=1e-5)
    np.testing.assert_allclose(second.numpy(), expected[:, 1], rtol=1e-5)
    np.testing.assert_array_equal(group.numpy(), of_group.argmin(axis=1))


def test_where_no_other_group_remains_distances_are_infinite():
    bank = MemoryBank(torch.tensor([[0.0], [1.0], [5.0]]), channels=[1])
    search = {"scales": torch.ones(1), "groups": torch.tensor([0, 0, 1])}
    first, group, second = bank.nearest_of_two_groups(torch.tensor([[3.5]]), left_out=0, **search)
    assert (first.tolist(), group.tolist(), second.tolist()) == ([1.5], [1], [np.inf])
    alone = MemoryBank(torch.tensor([[0.0]]), channels=[1])
    first, group, second = alone.nearest_of_two_groups(
        torch.tensor([[3.5]]), scales=torch.ones(1), groups=torch.tensor([0]), left_out=0
    )
    assert (first.tolist(), group.tolist(), second.tolist()) == ([np.inf], [-1], [np.inf])
