"""What SubspaceAD and PaDiM have in common: leaving out, state, identity, odd sets of images."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from sklearn.metrics import roc_auc_score

from velm_train.core.errors import ArtifactError, ConfigError, DataError, GateError
from velm_train.detectors.moment_settings import PadimSettings, SubspaceAdSettings
from velm_train.detectors.padim import Padim
from velm_train.detectors.protocol import Detector
from velm_train.detectors.subspace_ad import SubspaceAd

CPU = torch.device("cpu")
COMMON = {
    "layers": ("first", "second"),
    "input_hw": (48, 80),
    "smoothing_sigma": 1.0,
    "score_top_fraction": 0.0,
    "score_diffuse": False,
    "half_precision": False,
}
OWN = {
    "subspace_ad": {"explained_variance": 0.9, "max_components": 12},
    "padim": {"num_channels": 8, "regularisation": 0.01, "seed": 0},
}


def make(name, backbone, *, batch_size=4, **changes):
    settings = {**COMMON, **OWN[name], **changes}
    if name == "padim":
        return Padim(backbone, PadimSettings(**settings), device=CPU, batch_size=batch_size)
    return SubspaceAd(backbone, SubspaceAdSettings(**settings), device=CPU, batch_size=batch_size)


def names(images) -> list[str]:
    return [str(index) for index in range(len(images))]


def fitted(name, backbone, images, *, groups=None, batch_size=4, **changes):
    detector = make(name, backbone, batch_size=batch_size, **changes)
    detector.fit(images, image_ids=names(images), group_ids=groups or names(images))
    return detector


@pytest.fixture(params=list(OWN))
def name(request) -> str:
    return request.param


def test_it_is_a_detector(name, make_backbone):
    detector = make(name, make_backbone(0))
    assert isinstance(detector, Detector)
    assert detector.needs == {"normals"}
    assert not detector.transductive
    assert detector.calibration == "leave_one_out"


def test_planted_defects_are_told_from_good_images(name, make_backbone, good_images):
    rng = np.random.default_rng(2)
    defective = [image.copy() for image in good_images]
    for image in defective:
        row, column = rng.integers(0, 32), rng.integers(0, 64)
        image[row : row + 16, column : column + 16] = (255, 20, 20)
    detector = fitted(name, make_backbone(0), good_images)
    good = [one.anomaly_score for one in detector.out_of_sample()]
    bad = [one.anomaly_score for one in detector.detect(defective, image_ids=names(defective))]
    assert roc_auc_score([0] * 6 + [1] * 6, good + bad) == 1.0


def test_map_peaks_at_the_defect(name, make_backbone, good_images, bad_image):
    (detection,) = fitted(name, make_backbone(0), good_images).detect([bad_image], image_ids=["bad"])
    assert detection.anomaly_map.shape == (12, 20)
    assert detection.anomaly_map.dtype == np.float32
    row, column = np.unravel_index(detection.anomaly_map.argmax(), (12, 20))
    assert 24 - 4 <= row * 4 < 40 + 4
    assert 56 - 4 <= column * 4 < 72 + 4


@pytest.mark.parametrize("groups", [["a", "b", "c", "d", "e", "f"], ["a", "b", "a", "c", "b", "a"], list("aabbbb")])
@pytest.mark.parametrize("score_diffuse", [False, True])
def test_leaving_a_group_out_equals_fitting_without_it(name, make_backbone, good_images, groups, score_diffuse):
    if score_diffuse and groups[0] == groups[1]:
        groups = list("aabbcc")
    detector = fitted(name, make_backbone(0), good_images, groups=groups, score_diffuse=score_diffuse)
    left_out = detector.out_of_sample()
    plain = fitted(name, make_backbone(0), good_images, groups=groups).out_of_sample()
    for index, group in enumerate(groups):
        others = [image for image, other in zip(good_images, groups, strict=True) if other != group]
        refit = fitted(name, make_backbone(0), others)
        (again,) = refit.detect([good_images[index]], image_ids=["left out"])
        np.testing.assert_allclose(left_out[index].anomaly_map, again.anomaly_map, rtol=1e-6, atol=1e-6)
        assert plain[index].anomaly_score == pytest.approx(again.anomaly_score, rel=1e-6)
        if score_diffuse:  # against the other groups, each when left out
            usual = [
                (one.anomaly_score, one.anomaly_map.mean(dtype=np.float64))
                for one, other in zip(plain, groups, strict=True)
                if other != group
            ]
            mine = np.array([again.anomaly_score, again.anomaly_map.mean(dtype=np.float64)])
            expected = ((mine - np.mean(usual, axis=0)) / np.std(usual, axis=0)).max()
            assert left_out[index].anomaly_score == pytest.approx(expected, rel=1e-4)


def test_diffuse_score_of_a_new_image_is_measured_against_the_left_out_ones(
    name, make_backbone, good_images, bad_image
):
    plain = fitted(name, make_backbone(0), good_images)
    both = fitted(name, make_backbone(0), good_images, score_diffuse=True)
    usual = np.array([[one.anomaly_score, one.anomaly_map.mean()] for one in plain.out_of_sample()])
    (found,) = plain.detect([bad_image], image_ids=["bad"])
    mine = np.array([found.anomaly_score, found.anomaly_map.mean()])
    expected = ((mine - usual.mean(axis=0)) / usual.std(axis=0)).max()
    assert both.detect([bad_image], image_ids=["bad"])[0].anomaly_score == pytest.approx(expected, rel=1e-4)


def test_single_group_cannot_be_left_out(name, make_backbone, good_images, bad_image):
    for images in (good_images[:1], good_images):
        detector = fitted(name, make_backbone(0), images, groups=["part"] * len(images))
        assert detector.detect([bad_image], image_ids=["bad"])[0].anomaly_score > 0
        with pytest.raises(GateError, match="fitted on 1 image or group"):
            detector.out_of_sample()


def test_identical_images_give_finite_scores(name, make_backbone, good_images, bad_image):
    detector = fitted(name, make_backbone(0), [good_images[0]] * 4)
    scores = [one.anomaly_score for one in detector.out_of_sample()]
    assert np.isfinite(scores).all()
    assert np.ptp(scores) < 1e-5
    assert detector.detect([bad_image], image_ids=["bad"])[0].anomaly_score > scores[0]


def test_features_that_are_not_finite_are_refused(name, make_backbone, good_images):
    backbone = make_backbone(0)
    torch.nn.init.constant_(backbone.first.weight, torch.nan)
    with pytest.raises(DataError, match="not finite"):
        fitted(name, backbone, good_images)


def test_no_images_or_wrong_ids_are_refused(name, make_backbone, good_images):
    detector = make(name, make_backbone(0))
    for images, ids in (([], []), (good_images, ["a"]), (good_images[:2], ["a", "a"])):
        with pytest.raises(DataError, match="distinct id"):
            detector.fit(images, image_ids=ids, group_ids=ids)
    assert fitted(name, make_backbone(0), good_images).detect([], image_ids=[]) == []


def test_images_of_any_size_are_resized(name, make_backbone, good_images, bad_image):
    detector = fitted(name, make_backbone(0), [*good_images, np.repeat(good_images[0], 2, axis=0)])
    (detection,) = detector.detect([np.repeat(bad_image, 3, axis=1)], image_ids=["wide"])
    assert detection.anomaly_map.shape == (12, 20)


def test_backbone_sees_every_image_once_and_batch_size_does_not_matter(name, make_backbone, good_images, bad_image):
    backbone, seen = make_backbone(0), []
    hook = backbone.first.register_forward_hook(lambda *call: seen.append(len(call[2])))
    lazy = fitted(name, backbone, good_images, groups=list("abacba"), batch_size=1)
    hook.remove()
    assert seen == [1] * 6
    whole = fitted(name, make_backbone(0), good_images, groups=list("abacba"), batch_size=16)
    for one, two in zip(lazy.out_of_sample(), whole.out_of_sample(), strict=True):
        np.testing.assert_allclose(one.anomaly_map, two.anomaly_map, rtol=1e-4, atol=1e-5)
    (one,), (two,) = (detector.detect([bad_image], image_ids=["bad"]) for detector in (lazy, whole))
    np.testing.assert_allclose(one.anomaly_map, two.anomaly_map, rtol=1e-4, atol=1e-5)


def test_state_survives_an_array_file(name, make_backbone, good_images, bad_image):
    detector = fitted(name, make_backbone(0), good_images)
    restored = make(name, make_backbone(0))
    restored.load_state(load(save(detector.state())))
    assert restored.identity == detector.identity != make(name, make_backbone(0)).identity
    assert restored.fitted_image_ids == names(good_images)
    (again,), (before,) = (one.detect([bad_image], image_ids=["bad"]) for one in (restored, detector))
    assert again.anomaly_score == before.anomaly_score
    np.testing.assert_array_equal(again.anomaly_map, before.anomaly_map)
    for one, two in zip(restored.out_of_sample(), detector.out_of_sample(), strict=True):
        assert one.anomaly_score == two.anomaly_score
        np.testing.assert_array_equal(one.anomaly_map, two.anomaly_map)


def test_state_of_other_settings_or_with_missing_arrays_is_refused(name, make_backbone, good_images):
    state = fitted(name, make_backbone(0), good_images).state()
    with pytest.raises(ArtifactError, match="belongs to settings"):
        make(name, make_backbone(0), smoothing_sigma=0.0).load_state(state)
    with pytest.raises(ArtifactError, match="mean"):
        make(name, make_backbone(0)).load_state({key: state[key] for key in state if key != "mean"})


def test_unfitted_detector_refuses_to_work(name, make_backbone, bad_image):
    detector = make(name, make_backbone(0))
    for call in (lambda: detector.detect([bad_image], image_ids=["bad"]), detector.out_of_sample, detector.state):
        with pytest.raises(GateError, match="not fitted"):
            call()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        *(
            (name, {key: value})
            for name in OWN
            for key, value in (
                ("layers", ("first",)),
                ("input_hw", (40, 64)),
                ("smoothing_sigma", 0.0),
                ("score_top_fraction", 0.2),
                ("score_diffuse", True),
                ("half_precision", True),
            )
        ),
        ("subspace_ad", {"explained_variance": 0.5}),
        ("subspace_ad", {"max_components": 2}),
        ("padim", {"num_channels": 5}),
        ("padim", {"regularisation": 0.1}),
        ("padim", {"seed": 1}),
    ],
)
def test_every_knob_changes_score_and_identity(make_backbone, good_images, bad_image, name, changes):
    base, changed = (fitted(name, make_backbone(0), good_images, **one) for one in ({}, changes))
    images = [bad_image, *good_images]
    scores, other = ([one.anomaly_score for one in d.detect(images, image_ids=names(images))] for d in (base, changed))
    assert scores != other
    assert base.settings_hash != changed.settings_hash
    assert base.identity != changed.identity


def test_identity_depends_on_backbone_and_images(name, make_backbone, good_images):
    base = fitted(name, make_backbone(0), good_images)
    assert fitted(name, make_backbone(0), good_images).identity == base.identity
    assert fitted(name, make_backbone(1), good_images).identity != base.identity
    assert fitted(name, make_backbone(0), good_images[:5]).identity != base.identity


def test_unknown_layer_is_refused_before_anything_is_computed(name, make_backbone):
    with pytest.raises(ConfigError, match="third"):
        make(name, make_backbone(0), layers=("third",))


@pytest.mark.parametrize(
    ("name", "setting", "value", "key"),
    [
        ("padim", "layers", (), "layers"),
        ("padim", "input_hw", (0, 80), "input_hw"),
        ("subspace_ad", "smoothing_sigma", -1.0, "smoothing_sigma"),
        ("subspace_ad", "score_top_fraction", 1.1, "score_top_fraction"),
        ("subspace_ad", "explained_variance", 1.0, "subspace_ad.explained_variance"),
        ("subspace_ad", "max_components", 0, "subspace_ad.max_components"),
        ("padim", "num_channels", 0, "padim.num_channels"),
        ("padim", "regularisation", 0.0, "padim.regularisation"),
    ],
)
def test_impossible_setting_is_named_with_its_value(make_backbone, name, setting, value, key):
    with pytest.raises(ConfigError, match=rf"detector\.{key} is "):
        make(name, make_backbone(0), **{setting: value})
