"""Nearest neighbours, against scikit-learn, and the paper's score weight written out."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from velm_train.detectors.neighbours import nearest, neighbourhood_weight


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
    weight = neighbourhood_weight(query, bank, nearest_row=0, num_neighbours=3)
    assert weight == pytest.approx(expected, rel=1e-6)


def test_weight_uses_all_vectors_of_a_small_bank():
    bank = torch.tensor([[0.0], [1.0]])
    expected = 1 - np.exp(1) / (np.exp(1) + np.exp(2))
    assert neighbourhood_weight(torch.tensor([-1.0]), bank, nearest_row=0, num_neighbours=9) == pytest.approx(expected)
