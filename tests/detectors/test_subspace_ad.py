"""SubspaceAD on a real small backbone: distances, exact leaving out, knobs."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from velm_train.detectors.moment_settings import SubspaceAdSettings
from velm_train.detectors.patch_features import PatchExtractor
from velm_train.detectors.subspace_ad import SubspaceAd

CPU = torch.device("cpu")
SETTINGS = {
    "layers": ("first", "second"),
    "input_hw": (48, 80),
    "smoothing_sigma": 1.0,
    "score_top_fraction": 0.0,
    "score_diffuse": False,
    "half_precision": False,
    "explained_variance": 0.9,
    "max_components": 12,
}


def fitted(backbone, images, groups=None, **changes) -> SubspaceAd:
    detector = SubspaceAd(backbone, SubspaceAdSettings(**{**SETTINGS, **changes}), device=CPU, batch_size=4)
    names = [str(index) for index in range(len(images))]
    detector.fit(images, image_ids=names, group_ids=groups or names)
    return detector


def scaled_patches(backbone, images, fitted_on) -> np.ndarray:
    """Patches (I, P, C) with each layer divided by its mean norm over the fitted images, written out."""
    extract = PatchExtractor(
        backbone, layers=("first", "second"), input_hw=(48, 80), batch_size=9, device=CPU, half_precision=False
    )
    values, reference = (extract(one).values.double().numpy() for one in (images, fitted_on))
    for start, end in ((0, 6), (6, 16)):
        values[..., start:end] /= np.linalg.norm(reference[..., start:end], axis=2).mean()
    return values


@pytest.mark.parametrize("explained_variance", [0.5, 0.9, 0.99])
def test_map_is_the_reconstruction_error_of_scikit_learn_s_pca(
    make_backbone, good_images, bad_image, explained_variance
):
    changes = {"explained_variance": explained_variance, "max_components": 16, "smoothing_sigma": 0.0}
    detector = fitted(make_backbone(0), good_images, **changes)
    good, bad = (scaled_patches(make_backbone(0), one, good_images) for one in (good_images, [bad_image]))
    pca = PCA(n_components=explained_variance, svd_solver="full").fit(good.reshape(-1, 16))
    expected = np.linalg.norm(bad[0] - pca.inverse_transform(pca.transform(bad[0])), axis=1)
    (detection,) = detector.detect([bad_image], image_ids=["bad"])
    assert detector.state()["directions"].shape == (16, pca.n_components_)
    np.testing.assert_allclose(detection.anomaly_map.ravel(), expected, rtol=1e-5)
    assert detection.anomaly_score == detection.anomaly_map.max()


def test_number_of_directions_has_its_limit_and_leaves_one_out(make_backbone, good_images):
    assert fitted(make_backbone(0), good_images, max_components=3).state()["directions"].shape == (16, 3)
    detector = fitted(make_backbone(0), good_images, max_components=99, explained_variance=1 - 1e-12)
    assert detector.state()["directions"].shape == (16, 15)


def test_directions_are_orthonormal_and_sorted_by_variance(make_backbone, good_images):
    directions = fitted(make_backbone(0), good_images).state()["directions"]
    np.testing.assert_allclose(directions.T @ directions, np.eye(directions.shape[1]), atol=1e-12)
    patches = scaled_patches(make_backbone(0), good_images, good_images).reshape(-1, 16)
    assert np.all(np.diff((patches @ directions).var(axis=0)) < 0)


def test_state_does_not_grow_with_the_images(make_backbone, good_images):
    few, many = (
        fitted(make_backbone(0), images, max_components=4).state() for images in (good_images[:2], good_images)
    )
    for name in ("scales", "mean", "directions"):
        assert few[name].shape == many[name].shape


def test_same_colour_everywhere_leaves_the_distance_to_the_mean(make_backbone, bad_image):
    grey = np.full((48, 80, 3), 90, dtype=np.uint8)
    detector = fitted(make_backbone(0), [grey, grey], layers=("first",), smoothing_sigma=0.0)
    good = detector.out_of_sample()[0].anomaly_map
    bad = detector.detect([bad_image], image_ids=["bad"])[0].anomaly_map
    assert np.isfinite(bad).all()
    assert good[3:-3, 3:-3].max() < 0.2 < bad.max()
