"""The mathematics of MuSc against a slow double loop, and its corner cases."""

import math

import numpy as np
import pytest
import torch

from velm_train.detectors import mutual_scoring
from velm_train.detectors.mutual_scoring import (
    averaged_patches,
    lowest_mean,
    mutual_distances,
    nearest_distances,
    normalised_maps,
    rescored,
)


def random_maps(num_images: int, *, channels: int = 6, grid_hw=(3, 5), seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_images, channels, *grid_hw, generator=generator) * 3 + 1


def all_others(num_images: int) -> torch.Tensor:
    return ~torch.eye(num_images, dtype=torch.bool)


def slow_patches(maps: np.ndarray, side: int) -> np.ndarray:
    """Sections 3.2 of the paper, place by place, in float64."""
    num_images, channels, height, width = maps.shape
    found = np.zeros((num_images, height * width, channels))
    for image, values in enumerate(maps.astype(np.float64)):
        normal = (values - values.mean()) / np.sqrt(values.var() + 1e-5)
        for row in range(height):
            for column in range(width):
                total = np.zeros(channels)
                for y in range(row - side // 2, row + side // 2 + 1):
                    for x in range(column - side // 2, column + side // 2 + 1):
                        if 0 <= y < height and 0 <= x < width:
                            total += normal[:, y, x]
                found[image, row * width + column] = total / np.linalg.norm(total)
    return found


def slow_scores(patches: np.ndarray, fraction: float) -> np.ndarray:
    """Section 3.3, patch by patch, in float64."""
    num_images, num_patches, _ = patches.shape
    scores = np.zeros((num_images, num_patches))
    for image in range(num_images):
        for patch in range(num_patches):
            distances = sorted(
                min(float(np.linalg.norm(patches[image, patch] - one)) for one in patches[other])
                for other in range(num_images)
                if other != image
            )
            if distances:
                scores[image, patch] = np.mean(distances[: max(1, int(fraction * len(distances)))])
    return scores


@pytest.mark.parametrize("side", [1, 3, 5])
def test_patches_equal_the_slow_version(side):
    maps = random_maps(2)
    found = averaged_patches(normalised_maps(maps), side=side)
    np.testing.assert_allclose(found.numpy(), slow_patches(maps.numpy(), side), atol=1e-5)


@pytest.mark.parametrize("num_images", [1, 2, 3, 4, 5, 9])
def test_mutual_scores_equal_the_slow_double_loop(num_images, monkeypatch):
    monkeypatch.setattr(mutual_scoring, "_PRODUCT_CELLS", 40**2)  # blocks of 2 images, so that there are several
    patches = averaged_patches(normalised_maps(random_maps(num_images)), side=3)
    found = lowest_mean(mutual_distances(patches), others=all_others(num_images), fraction=0.3)
    assert torch.isfinite(found).all()
    np.testing.assert_allclose(found.numpy(), slow_scores(patches.double().numpy(), 0.3), atol=1e-5)


def test_distances_to_a_bank_equal_the_mutual_ones():
    patches = averaged_patches(normalised_maps(random_maps(7)), side=1)
    np.testing.assert_allclose(
        nearest_distances(patches[:3], patches[3:]).numpy(), mutual_distances(patches)[:3, :, 3:].numpy(), atol=1e-6
    )


def test_order_of_the_images_does_not_matter():
    maps = random_maps(6)
    order = torch.tensor([4, 0, 5, 2, 1, 3])

    def scores(some: torch.Tensor) -> torch.Tensor:
        patches = averaged_patches(normalised_maps(some), side=3)
        return lowest_mean(mutual_distances(patches), others=all_others(6), fraction=0.5)

    np.testing.assert_allclose(scores(maps[order]).numpy(), scores(maps)[order].numpy(), atol=1e-6)


def test_identical_and_empty_images_give_finite_scores_near_zero_and_root_two():
    same = averaged_patches(normalised_maps(random_maps(1).repeat(4, 1, 1, 1)), side=3)
    assert float(lowest_mean(mutual_distances(same), others=all_others(4), fraction=0.3).max()) < 1e-3
    empty = averaged_patches(normalised_maps(torch.zeros(3, 6, 3, 5)), side=3)
    found = lowest_mean(mutual_distances(empty), others=all_others(3), fraction=0.3)
    assert found.unique().tolist() == pytest.approx([math.sqrt(2)])


def test_lowest_mean_takes_the_share_of_the_judges_alone():
    distances = torch.tensor([[[5.0, 1.0, 2.0, 3.0, 4.0]]])
    judges = torch.tensor([[True, False, True, True, True]])
    assert lowest_mean(distances, others=judges, fraction=0.5).item() == 2.5  # of 2, 3, 4, 5 the lowest two
    assert lowest_mean(distances, others=judges, fraction=0.1).item() == 2.0
    assert lowest_mean(distances, others=torch.zeros(1, 5, dtype=torch.bool), fraction=0.5).item() == 0


def test_rescoring_over_the_image_alone_changes_nothing():
    scores = torch.tensor([0.1, 3.0, 2.0])
    embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.5, 1.0]])  # two are equal
    for neighbours in ((), (1,)):
        assert torch.equal(rescored(scores, embeddings, neighbours=neighbours, others=all_others(3)), scores)


def test_rescoring_over_two_images_equals_the_hand_computed_average():
    scores = torch.tensor([1.0, 2.0, 4.0])
    embeddings = torch.tensor([[2.0, 0.0], [3.0, 4.0], [0.0, 1.0]])  # cosines 0.6 (0, 1), 0 (0, 2), 0.8 (1, 2)
    found = rescored(scores, embeddings, neighbours=(1, 2), others=all_others(3))
    pairs = [(1 + 0.6 * 2) / 1.6, (2 + 0.8 * 4) / 1.8, (4 + 0.8 * 2) / 1.8]
    assert found.tolist() == pytest.approx([(alone + pair) / 2 for alone, pair in zip([1, 2, 4], pairs, strict=True)])
    group = all_others(3)
    group[0, 1] = group[1, 0] = False  # neighbours of one group have no weight
    assert rescored(scores, embeddings, neighbours=(2,), others=group)[0].item() == 1


def test_rescoring_commutes_with_bringing_scores_to_0_1():
    generator = torch.Generator().manual_seed(3)
    scores, embeddings = torch.rand(8, generator=generator), torch.rand(8, 4, generator=generator)
    low, high = scores.min(), scores.max()
    neighbours, others = (1, 2, 3, 50), all_others(8)
    published = rescored((scores - low) / (high - low), embeddings, neighbours=neighbours, others=others)
    raw = rescored(scores, embeddings, neighbours=neighbours, others=others)
    np.testing.assert_allclose(raw.numpy(), (published * (high - low) + low).numpy(), rtol=1e-5)
