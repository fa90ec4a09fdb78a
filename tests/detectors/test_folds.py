"""Folds around a real detector: honest scores, whole groups, one identity."""

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from velm_train.core.errors import ArtifactError, ConfigError, DataError, GateError
from velm_train.detectors.anomaly_dino import AnomalyDino
from velm_train.detectors.anomaly_dino_settings import AnomalyDinoSettings
from velm_train.detectors.folds import KFoldDetector
from velm_train.detectors.musc import MuSc
from velm_train.detectors.musc_settings import MuScSettings
from velm_train.detectors.protocol import Detector

CPU = torch.device("cpu")
SETTINGS = AnomalyDinoSettings(
    layers=("first",),
    input_hw=(48, 80),
    foreground="off",
    num_rotations=1,
    smoothing_sigma=0.0,
    score_top_fraction=0.0,
    score_diffuse=False,
    half_precision=False,
)


def make_inner(backbone, **changes) -> AnomalyDino:
    return AnomalyDino(backbone, dataclasses.replace(SETTINGS, **changes), device=CPU)


def make(backbone, *, num_folds=3, seed=0, **changes) -> KFoldDetector:
    return KFoldDetector(lambda: make_inner(backbone, **changes), num_folds=num_folds, seed=seed)


def names(images) -> list[str]:
    return [str(index) for index in range(len(images))]


def fitted(backbone, images, *, groups=None, **changes) -> KFoldDetector:
    detector = make(backbone, **changes)
    detector.fit(images, image_ids=names(images), group_ids=groups or names(images))
    return detector


def scores(detections) -> list[float]:
    return [one.anomaly_score for one in detections]


def test_wrapper_is_a_detector_calibrated_by_folds(make_backbone):
    detector = make(make_backbone(0))
    assert isinstance(detector, Detector)
    assert (detector.calibration, detector.transductive, detector.needs) == ("k_fold", False, {"normals"})


def test_new_images_are_judged_by_the_detector_of_all_good_images(make_backbone, good_images, bad_image):
    inner = make_inner(make_backbone(0))
    inner.fit(good_images, image_ids=names(good_images), group_ids=names(good_images))
    found = fitted(make_backbone(0), good_images).detect([bad_image], image_ids=["bad"])
    assert scores(found) == scores(inner.detect([bad_image], image_ids=["bad"]))


def test_out_of_sample_scores_equal_those_of_detectors_fitted_on_the_other_folds(make_backbone, good_images):
    detector = fitted(make_backbone(0), good_images)
    folds = detector.state()["folds"]
    assert sorted(np.bincount(folds)) == [2, 2, 2]
    for index, one in enumerate(detector.out_of_sample()):
        others = [good_images[other] for other in range(6) if folds[other] != folds[index]]
        inner = make_inner(make_backbone(0))
        inner.fit(others, image_ids=names(others), group_ids=names(others))
        (expected,) = inner.detect([good_images[index]], image_ids=["left out"])
        np.testing.assert_allclose(one.anomaly_map, expected.anomaly_map, atol=1e-6)
        assert one.anomaly_score == pytest.approx(expected.anomaly_score, rel=1e-5)


def test_as_many_folds_as_groups_equal_leaving_one_group_out(make_backbone, good_images):
    inner = make_inner(make_backbone(0))
    inner.fit(good_images, image_ids=names(good_images), group_ids=names(good_images))
    folded = fitted(make_backbone(0), good_images, num_folds=6).out_of_sample()
    np.testing.assert_allclose(scores(folded), scores(inner.out_of_sample()), rtol=1e-5)


def test_groups_stay_together_and_folds_are_of_similar_size(make_backbone, good_images):
    images = [*good_images, *good_images]
    groups = ["a", "a", "a", "a", "b", "b", "c", "c", "d", "d", "e", "f"]
    for seed in range(5):
        folds = fitted(make_backbone(0), images, groups=groups, seed=seed).state()["folds"]
        assert all(len({folds[i] for i in range(12) if groups[i] == group}) == 1 for group in set(groups))
        assert np.bincount(folds).tolist() == [4, 4, 4]


def test_division_follows_the_seed(make_backbone, good_images):
    one, same, other = (fitted(make_backbone(0), good_images, seed=seed) for seed in (0, 0, 1))
    assert one.identity == same.identity != other.identity
    assert one.settings_hash != other.settings_hash != make(make_backbone(0), seed=1, num_folds=2).settings_hash
    assert one.state()["folds"].tolist() != other.state()["folds"].tolist()
    assert one.settings_hash != make(make_backbone(0), smoothing_sigma=2.0).settings_hash


def test_fewer_groups_than_folds_are_refused_with_both_numbers(make_backbone, good_images):
    with pytest.raises(GateError, match="2 groups of good images cannot make 3 folds"):
        fitted(make_backbone(0), good_images, groups=["a", "a", "a", "b", "b", "b"])


def test_impossible_folds_and_missing_images_are_refused(make_backbone, good_images):
    with pytest.raises(ConfigError, match="num_folds is 1"):
        make(make_backbone(0), num_folds=1)
    for images, ids in ((good_images, ["a"]), (good_images[:2], ["a", "a"]), ([], [])):
        with pytest.raises(DataError, match="distinct id"):
            make(make_backbone(0)).fit(images, image_ids=ids, group_ids=ids)
    detector = make(make_backbone(0))
    for call in (lambda: detector.detect(good_images, image_ids=["0"]), detector.out_of_sample, detector.state):
        with pytest.raises(GateError, match="not fitted"):
            call()


def test_detector_that_learns_nothing_from_good_images_is_refused(make_backbone):
    settings = MuScSettings(
        layers=("first",),
        input_hw=(48, 80),
        mode="transductive",
        neighbourhoods=(1,),
        lowest_fraction=0.3,
        rescore_neighbours=(),
        smoothing_sigma=0.0,
        score_top_fraction=0.0,
        score_diffuse=False,
        half_precision=False,
    )
    with pytest.raises(ConfigError, match="test_batch"):
        KFoldDetector(lambda: MuSc(make_backbone(0), settings, device=CPU), num_folds=2, seed=0)


def test_state_survives_an_array_file(make_backbone, good_images, bad_image):
    detector = fitted(make_backbone(0), good_images)
    restored = make(make_backbone(0))
    state = load(save(detector.state()))
    restored.load_state(state)
    assert restored.identity == detector.identity
    before, after = (one.detect([bad_image], image_ids=["bad"])[0] for one in (detector, restored))
    np.testing.assert_array_equal(before.anomaly_map, after.anomaly_map)
    assert scores(restored.out_of_sample()) == scores(detector.out_of_sample())
    with pytest.raises(ArtifactError, match="belongs to settings"):
        make(make_backbone(0), seed=1).load_state(state)
    with pytest.raises(ArtifactError, match="folds"):
        restored.load_state({name: state[name] for name in state if name != "folds"})
    with pytest.raises(ArtifactError, match="bank"):
        restored.load_state({name: state[name] for name in state if name != "full.bank"})
