"""Moments that are added and taken away equal those of the vectors themselves."""

import numpy as np
import torch

from velm_train.detectors.moments import Moments


def vectors(number: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(3, 2, (4, number, 5)).astype(np.float32))


def test_mean_and_covariance_equal_numpy():
    values = vectors(7, seed=0)
    moments = Moments.of(values)
    for index in range(4):
        expected = values[index].double().numpy()
        np.testing.assert_allclose(moments.mean()[index], expected.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(moments.covariance()[index], np.cov(expected.T), rtol=1e-9, atol=1e-12)


def test_sum_and_difference_equal_the_moments_of_the_sets():
    first, second = vectors(7, seed=0), vectors(3, seed=1)
    both = Moments.of(torch.cat([first, second], dim=1))
    added = Moments.of(first) + Moments.of(second)
    rest = both - Moments.of(second)
    for found, expected in ((added, both), (rest, Moments.of(first))):
        assert found.count == expected.count
        torch.testing.assert_close(found.covariance(), expected.covariance(), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(found.mean(), expected.mean(), rtol=1e-12, atol=0)


def test_single_vector_has_no_covariance():
    assert not Moments.of(vectors(1, seed=0)).covariance().any()
