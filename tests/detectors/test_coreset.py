"""Greedy k-centre selection, against the sequential algorithm written out."""

import numpy as np
import pytest
import torch

from velm_train.detectors.coreset import PROJECTED_DIM, greedy_coreset, project, projection_matrix


def greedy_slowly(points: np.ndarray, num_selected: int, first: int) -> list[int]:
    selected = [first]
    distances = np.linalg.norm(points - points[first], axis=1)
    while len(selected) < num_selected:
        farthest = int(distances.argmax())
        selected.append(farthest)
        distances = np.minimum(distances, np.linalg.norm(points - points[farthest], axis=1))
    return selected


@pytest.mark.parametrize(("num_points", "num_selected"), [(700, 300), (5000, 400), (40, 39)])
def test_selection_equals_the_sequential_greedy_one(num_points, num_selected):
    points = np.random.default_rng(3).standard_normal((num_points, 8)).astype(np.float32)
    selected = greedy_coreset(torch.from_numpy(points), num_selected=num_selected, seed=0).tolist()
    assert selected == greedy_slowly(points.astype(np.float64), num_selected, selected[0])


def test_selection_depends_on_the_seed_alone():
    points = torch.from_numpy(np.random.default_rng(3).standard_normal((500, 8)).astype(np.float32))
    first = greedy_coreset(points, num_selected=50, seed=0)
    assert torch.equal(first, greedy_coreset(points, num_selected=50, seed=0))
    assert not torch.equal(first, greedy_coreset(points, num_selected=50, seed=1))


def test_every_row_is_selected_at_most_once_even_among_duplicates():
    points = torch.ones(30, 4)
    assert sorted(greedy_coreset(points, num_selected=29, seed=0).unique().tolist()).__len__() == 29


def test_full_selection_keeps_all_rows_in_order():
    points = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    assert greedy_coreset(points, num_selected=20, seed=5).tolist() == list(range(20))


def test_projection_keeps_distances_on_average_and_is_seeded():
    points = torch.from_numpy(np.random.default_rng(1).standard_normal((200, 300)).astype(np.float32))
    matrix = projection_matrix(300, seed=0)
    assert matrix.shape == (300, PROJECTED_DIM)
    ratio = torch.pdist(points @ matrix) / torch.pdist(points)
    assert abs(float(ratio.mean()) - 1) < 0.05
    assert float(ratio.std()) < 0.15
    assert not torch.equal(matrix, projection_matrix(300, seed=1))


def test_narrow_features_are_not_projected():
    assert torch.equal(projection_matrix(5, seed=0), torch.eye(5))


def test_projection_of_blocks_is_that_of_the_whole():
    points = torch.randn(70, 130, generator=torch.Generator().manual_seed(0))
    matrix = projection_matrix(130, seed=0)
    blocks = (points[start : start + 32] for start in range(0, 70, 32))
    torch.testing.assert_close(project(blocks, matrix, num_rows=70), points @ matrix)
