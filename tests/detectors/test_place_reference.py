"""Yardsticks without one part equal those made as if the part had never been there."""

import numpy as np
import pytest
import torch

from velm_train.detectors import place_reference
from velm_train.detectors.neighbours import MemoryBank
from velm_train.detectors.patch_features import PatchFeatures
from velm_train.detectors.place_reference import PlaceReference, reference_images
from velm_train.detectors.places import PlaceYardstick
from velm_train.detectors.scores import smoothed

GRID = (7, 9)
GROUPS = np.array([0, 1, 1, 2, 3, 3, 4])


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((7, 63, 5)).astype(np.float32)


def reference(images: np.ndarray, groups: np.ndarray, chosen: list[int]) -> PlaceReference:
    rows = torch.from_numpy(images.reshape(-1, 5))
    return PlaceReference.of(
        (
            (int(groups[i]), PatchFeatures(values=torch.from_numpy(images[i : i + 1]), grid_hw=GRID), torch.ones(1))
            for i in chosen
        ),
        MemoryBank(rows, channels=[5]),
        torch.from_numpy(np.repeat(groups, 63)),
        smoothing_sigma=0.8,
    )


def brute_force(images: np.ndarray, groups: np.ndarray) -> PlaceYardstick:
    maps = []
    for image, group in zip(images, groups, strict=True):
        bank = images[groups != group].reshape(-1, 5)
        distances = np.linalg.norm(image[:, None] - bank[None], axis=2).min(axis=1)
        maps.append(smoothed(distances.reshape(GRID).astype(np.float32), 0.8))
    return PlaceYardstick.of(np.array(maps))


def assert_same(found: PlaceYardstick | None, expected: PlaceYardstick) -> None:
    assert found is not None
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-5)
    np.testing.assert_allclose(found.deviation, expected.deviation, rtol=1e-4)


def test_leaving_out_any_part_equals_never_having_seen_it(images):
    whole = reference(images, GROUPS, list(range(7)))
    assert_same(whole.whole, brute_force(images, GROUPS))
    for group in range(5):
        others = group != GROUPS
        assert_same(whole.without(group), brute_force(images[others], GROUPS[others]))


def test_a_part_that_no_patch_leads_to_changes_nothing(images):
    far = np.concatenate([images, images[:1] + 100])
    groups = np.array([*GROUPS, 5])
    found = reference(far, groups, list(range(7)))
    assert found.without(5) is found.whole


def test_one_part_alone_has_no_yardstick(images):
    assert reference(images[:2], np.zeros(2, dtype=np.int64), [0, 1]).whole is None
    two = reference(images[:2], np.arange(2), [0, 1])
    assert two.whole is not None
    assert two.without(0) is two.without(1) is None


def test_the_choice_of_images_without_a_part_is_that_of_a_set_that_never_had_it(monkeypatch, images):
    monkeypatch.setattr(place_reference, "_NUM_GROUPS", 3)
    names = np.array(["a", "b", "b", "c", "d", "d", "e"])
    chosen = reference_images(names.tolist())
    assert len({names[index] for index in chosen}) == 4
    whole = reference(images, GROUPS, chosen)
    for group, name in enumerate("abcde"):
        kept = np.flatnonzero(names != name)
        smaller = reference(images[kept], GROUPS[kept], reference_images(names[kept].tolist()))
        expected = smaller.whole
        assert expected is not None
        assert_same(whole.without(group), expected)
