"""PatchCore against anomalib's on the same features: distances, neighbourhood weight, coreset and whole scores."""

import itertools

import numpy as np
import pytest
import torch

from velm_train.core.seeding import generator
from velm_train.detectors.bank_scores import score_patches
from velm_train.detectors.coreset import greedy_coreset
from velm_train.detectors.neighbours import MemoryBank
from velm_train.detectors.patch_features import PatchFeatures
from velm_train.detectors.settings import PatchCoreSettings

pytestmark = pytest.mark.slow  # importing anomalib takes more than ten seconds

NEEDS_EXTRA = "anomalib is the extra velm_train[detectors]"
SETTINGS = PatchCoreSettings(layers=("one",), input_hw=(28, 40), smoothing_sigma=0.0, reweight=True, num_neighbours=9)


@pytest.fixture(scope="module")
def model():
    """Their torch model around a bank of 700 vectors of 24 channels."""
    torch_model = pytest.importorskip("anomalib.models.image.patchcore.torch_model", reason=NEEDS_EXTRA)
    model = torch_model.PatchcoreModel(
        layers=["layer2"], backbone="resnet18", pre_trained=False, num_neighbors=9
    ).eval()
    model.memory_bank = vectors(700, seed=0)
    return model


def vectors(count: int, *, seed: int) -> torch.Tensor:
    """Clustered vectors away from the origin, as features are."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((12, 24))
    values = centres[rng.integers(0, 12, count)] + 0.3 * rng.standard_normal((count, 24)) + 2
    return torch.from_numpy(values.astype(np.float32))


def test_distances_and_nearest_rows_agree(model):
    queries = vectors(2100, seed=1)
    expected, expected_rows = model.nearest_neighbors(queries, n_neighbors=1)
    distances, rows = MemoryBank(model.memory_bank, channels=[24]).nearest(queries, scales=torch.ones(1))
    torch.testing.assert_close(distances, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(rows, expected_rows)


def test_weighted_image_scores_agree(model):
    queries = vectors(5 * 70, seed=2).reshape(5, 70, 24)
    patch_scores, locations = model.nearest_neighbors(queries.flatten(0, 1), n_neighbors=1)
    expected = model.compute_anomaly_score(patch_scores.reshape(5, 70), locations.reshape(5, 70), queries.flatten(0, 1))
    found = score_patches(
        PatchFeatures(values=queries, grid_hw=(7, 10)),
        MemoryBank(model.memory_bank, channels=[24]),
        settings=SETTINGS,
        scales=torch.ones(1),
    )
    np.testing.assert_allclose([one.anomaly_score for one in found], expected.numpy(), rtol=1e-4)
    np.testing.assert_allclose([one.anomaly_map for one in found], patch_scores.reshape(5, 7, 10), rtol=1e-4)


def test_coreset_is_theirs_from_the_same_first_row():
    components = pytest.importorskip("anomalib.models.components", reason=NEEDS_EXTRA)
    points = vectors(900, seed=3)
    sampler = components.KCenterGreedy(embedding=points[:, None], sampling_ratio=0.2)  # three axes: not projected
    expected = sampler.select_coreset_idxs()
    seed = next(seed for seed in itertools.count() if generator(seed, "coreset", "first").integers(900) == expected[0])
    assert greedy_coreset(points, num_selected=180, seed=seed).tolist() == expected
