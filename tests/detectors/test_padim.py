"""PaDiM on a real small backbone: distances, exact leaving out, knobs."""

import numpy as np
import pytest
import torch

from velm_train.core.seeding import generator
from velm_train.detectors.moment_settings import PadimSettings
from velm_train.detectors.padim import Padim
from velm_train.detectors.patch_features import PatchExtractor

CPU = torch.device("cpu")
SETTINGS = {
    "layers": ("first", "second"),
    "input_hw": (48, 80),
    "smoothing_sigma": 1.0,
    "score_top_fraction": 0.0,
    "score_diffuse": False,
    "half_precision": False,
    "num_channels": 7,
    "regularisation": 0.01,
    "seed": 0,
}


def fitted(backbone, images, groups=None, **changes) -> Padim:
    detector = Padim(backbone, PadimSettings(**{**SETTINGS, **changes}), device=CPU, batch_size=4)
    names = [str(index) for index in range(len(images))]
    detector.fit(images, image_ids=names, group_ids=groups or names)
    return detector


def scaled_patches(backbone, images, fitted_on) -> np.ndarray:
    """Patches (I, P, C) whose channels have a mean square of about 1, written out."""
    extract = PatchExtractor(
        backbone, layers=("first", "second"), input_hw=(48, 80), batch_size=9, device=CPU, half_precision=False
    )
    values, reference = (extract(one).values.double().numpy() for one in (images, fitted_on))
    for start, end in ((0, 6), (6, 16)):
        values[..., start:end] *= np.sqrt(end - start) / np.linalg.norm(reference[..., start:end], axis=2).mean()
    return values


@pytest.mark.parametrize(("num_channels", "regularisation"), [(7, 0.01), (16, 0.5), (99, 0.01)])
def test_map_is_the_mahalanobis_distance_at_every_place(
    make_backbone, good_images, bad_image, num_channels, regularisation
):
    changes = {"num_channels": num_channels, "regularisation": regularisation, "smoothing_sigma": 0.0}
    detector = fitted(make_backbone(0), good_images, **changes)
    drawn = np.sort(generator(0, "padim", "channels").permutation(16)[:num_channels])
    good, bad = (scaled_patches(make_backbone(0), one, good_images)[..., drawn] for one in (good_images, [bad_image]))
    expected = []
    for place in range(12 * 20):
        covariance = np.cov(good[:, place].T) + regularisation * np.eye(len(drawn))
        difference = bad[0, place] - good[:, place].mean(axis=0)
        expected.append(np.sqrt(difference @ np.linalg.inv(covariance) @ difference))
    (detection,) = detector.detect([bad_image], image_ids=["bad"])
    np.testing.assert_allclose(detection.anomaly_map.ravel(), expected, rtol=1e-5)
    assert detection.anomaly_score == detection.anomaly_map.max()


def test_one_image_leaves_the_plain_distance(make_backbone, good_images, bad_image):
    detector = fitted(make_backbone(0), good_images[:1], num_channels=16, regularisation=0.25, smoothing_sigma=0.0)
    good, bad = (scaled_patches(make_backbone(0), [one], good_images[:1])[0] for one in (good_images[0], bad_image))
    (detection,) = detector.detect([bad_image], image_ids=["bad"])
    np.testing.assert_allclose(
        detection.anomaly_map.ravel(), np.linalg.norm(bad - good, axis=1) / 0.5, rtol=1e-4, atol=1e-5
    )


def test_moved_part_is_anomalous_although_every_patch_is_known(make_backbone, good_images):
    rng = np.random.default_rng(5)
    moved = np.clip(np.roll(good_images[0], 8, axis=1) + rng.normal(0, 3, (48, 80, 3)), 0, 255).astype(np.uint8)
    detector = fitted(make_backbone(0), good_images, score_top_fraction=1.0)
    (detection,) = detector.detect([moved], image_ids=["moved"])
    assert detection.anomaly_score > 1.2 * max(one.anomaly_score for one in detector.out_of_sample())


def test_seed_draws_other_channels(make_backbone, good_images):
    first, second = (fitted(make_backbone(0), good_images, seed=seed).state() for seed in (0, 1))
    assert first["mean"].shape == second["mean"].shape == (240, 7)
    assert not np.allclose(first["mean"], second["mean"])
