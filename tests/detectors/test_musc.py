"""MuSc on a real small backbone: both modes, groups, knobs, state."""

import dataclasses
import logging

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from torch import nn

from velm_train.backbones.protocol import LayerInfo
from velm_train.core.errors import ArtifactError, ConfigError, DataError, GateError
from velm_train.detectors.musc import MuSc
from velm_train.detectors.musc_settings import MuScSettings
from velm_train.detectors.protocol import Detector

CPU = torch.device("cpu")
BASE = MuScSettings(
    layers=("first", "second"),
    input_hw=(48, 80),
    mode="transductive",
    neighbourhoods=(1, 3),
    lowest_fraction=0.3,
    rescore_neighbours=(),
    smoothing_sigma=0.0,
    score_top_fraction=0.0,
    score_diffuse=False,
    half_precision=False,
)
BANK = {"mode": "bank"}


def make(backbone, **changes) -> MuSc:
    return MuSc(backbone, dataclasses.replace(BASE, **changes), device=CPU, batch_size=4)


def names(images) -> list[str]:
    return [str(index) for index in range(len(images))]


def fitted(backbone, images, *, groups=None, **changes) -> MuSc:
    detector = make(backbone, **changes)
    detector.fit(images, image_ids=names(images), group_ids=groups or names(images))
    return detector


def scores(detections) -> list[float]:
    return [one.anomaly_score for one in detections]


def test_modes_say_what_they_need(make_backbone):
    transductive, bank = make(make_backbone(0)), make(make_backbone(0), **BANK)
    assert isinstance(transductive, Detector)
    assert isinstance(bank, Detector)
    assert (transductive.transductive, transductive.needs) == (True, {"test_batch"})
    assert (bank.transductive, bank.needs) == (False, {"normals"})


@pytest.mark.parametrize("mode", ["transductive", "bank"])
def test_defect_scores_highest_and_peaks_at_its_place(make_backbone, good_images, bad_image, mode):
    detector = fitted(make_backbone(0), good_images, mode=mode)
    judged = [*good_images[:4], bad_image]
    found = detector.detect(judged, image_ids=names(judged))
    assert np.argmax(scores(found)) == 4
    assert found[4].anomaly_map.shape == (12, 20)
    assert found[4].anomaly_map.dtype == np.float32
    assert found[4].anomaly_score == found[4].anomaly_map.max()
    row, column = np.unravel_index(found[4].anomaly_map.argmax(), (12, 20))
    assert 24 - 4 <= row * 4 < 40 + 4
    assert 56 - 4 <= column * 4 < 72 + 4


@pytest.mark.parametrize("num_images", [1, 2, 3, 4, 5])
def test_few_images_give_finite_scores(make_backbone, good_images, num_images, caplog):
    detector = fitted(make_backbone(0), good_images, rescore_neighbours=(1, 2, 3))
    with caplog.at_level(logging.WARNING):
        found = detector.detect(good_images[:num_images], image_ids=names(good_images[:num_images]))
    assert all(np.isfinite(one.anomaly_map).all() and np.isfinite(one.anomaly_score) for one in found)
    assert (num_images == 1) == any("cannot judge 0 alone" in record.message for record in caplog.records)
    assert (num_images == 1) == (max(scores(found)) == 0)


def test_transductive_scores_follow_the_images_in_any_order(make_backbone, good_images, bad_image):
    detector = fitted(make_backbone(0), good_images, rescore_neighbours=(1, 2))
    judged = [*good_images, bad_image]
    order = [3, 6, 0, 5, 1, 4, 2]
    shuffled = [judged[index] for index in order]
    plain = detector.detect(judged, image_ids=names(judged))
    moved = detector.detect(shuffled, image_ids=names(shuffled))
    np.testing.assert_allclose(scores(moved), np.array(scores(plain))[order], rtol=1e-5)


def test_transductive_mode_ignores_the_fitted_images_and_bank_mode_the_other_judged_ones(
    make_backbone, good_images, bad_image
):
    backbone = make_backbone(0)
    judged = [*good_images[:2], bad_image]
    one, two = (fitted(backbone, some) for some in (good_images, good_images[3:]))
    assert scores(one.detect(judged, image_ids=names(judged))) == scores(two.detect(judged, image_ids=names(judged)))
    bank = fitted(backbone, good_images[2:], **BANK)
    (alone,) = bank.detect([bad_image], image_ids=["bad"])
    together = bank.detect(judged, image_ids=names(judged))
    np.testing.assert_allclose(together[2].anomaly_map, alone.anomaly_map, atol=1e-5)
    assert alone.anomaly_score != one.detect(judged, image_ids=names(judged))[2].anomaly_score


@pytest.mark.parametrize("score_diffuse", [False, True])
def test_bank_mode_leaves_a_group_out_as_if_it_had_not_been_fitted(make_backbone, good_images, score_diffuse):
    groups = ["a", "a", "b", "c", "d", "e"]
    changes = {**BANK, "smoothing_sigma": 1.0, "score_top_fraction": 0.1}
    whole = fitted(make_backbone(0), good_images, groups=groups, score_diffuse=score_diffuse, **changes)
    rest = fitted(make_backbone(0), good_images[2:], **changes)
    refit = rest.detect(good_images[:2], image_ids=["0", "1"])
    for left_out, refitted in zip(whole.out_of_sample(), refit, strict=False):
        np.testing.assert_allclose(left_out.anomaly_map, refitted.anomaly_map, atol=1e-5)
        if not score_diffuse:
            assert left_out.anomaly_score == pytest.approx(refitted.anomaly_score, rel=1e-5)


def test_transductive_left_out_scores_are_mutual_scores_without_the_group(make_backbone, good_images):
    backbone = make_backbone(0)
    detector = fitted(backbone, good_images)
    mutual = detector.detect(good_images, image_ids=names(good_images))
    np.testing.assert_allclose(scores(detector.out_of_sample()), scores(mutual), rtol=1e-6)
    doubled = [*good_images, good_images[0]]
    together = fitted(backbone, doubled, groups=[*names(good_images), "0"], lowest_fraction=0.01).out_of_sample()
    apart = fitted(backbone, doubled, lowest_fraction=0.01).out_of_sample()
    assert together[0].anomaly_score == pytest.approx(together[6].anomaly_score)
    assert apart[0].anomaly_score < 0.01 < together[0].anomaly_score


@pytest.mark.parametrize("mode", ["transductive", "bank"])
def test_single_group_cannot_be_left_out(make_backbone, good_images, mode):
    for images, groups in ((good_images[:1], ["a"]), (good_images[:2], ["a", "a"])):
        detector = fitted(make_backbone(0), images, groups=groups, mode=mode)
        with pytest.raises(GateError, match="1 image or group"):
            detector.out_of_sample()
        assert len(detector.detect(good_images, image_ids=names(good_images))) == 6


def test_identical_images_score_near_zero(make_backbone, good_images):
    same = [good_images[0]] * 5
    for mode in ("transductive", "bank"):
        assert max(scores(fitted(make_backbone(0), same, mode=mode).out_of_sample())) < 1e-2


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": ("second",)},
        {"input_hw": (40, 64)},
        {"mode": "transductive"},
        {"neighbourhoods": (5,)},
        {"lowest_fraction": 1.0},
        {"smoothing_sigma": 1.0},
        {"score_top_fraction": 0.2},
        {"score_diffuse": True},
        {"half_precision": True},
    ],
)
def test_every_knob_changes_score_and_identity(make_backbone, good_images, bad_image, changes):
    base = fitted(make_backbone(0), good_images, **BANK)
    changed = fitted(make_backbone(0), good_images, **{**BANK, **changes})
    judged = [bad_image, *good_images]
    one, two = (scores(d.detect(judged, image_ids=names(judged))) for d in (base, changed))
    assert one != two
    assert base.settings_hash != changed.settings_hash
    assert base.identity != changed.identity


def test_rescoring_pulls_images_towards_their_neighbours(make_backbone, good_images, bad_image):
    judged = [*good_images, bad_image]
    plain, smooth = (
        fitted(make_backbone(0), good_images, rescore_neighbours=counts).detect(judged, image_ids=names(judged))
        for counts in ((), (1, 7))
    )
    assert scores(smooth)[6] < scores(plain)[6]
    assert np.ptp(scores(smooth)) < np.ptp(scores(plain))
    np.testing.assert_array_equal(smooth[6].anomaly_map, plain[6].anomaly_map)


@pytest.mark.parametrize("mode", ["transductive", "bank"])
def test_state_survives_an_array_file(make_backbone, good_images, bad_image, mode):
    detector = fitted(make_backbone(0), good_images, mode=mode)
    restored = make(make_backbone(0), mode=mode)
    restored.load_state(load(save(detector.state())))
    assert restored.identity == detector.identity != make(make_backbone(0), mode=mode).identity
    judged = [*good_images[:2], bad_image]
    before, after = (scores(d.detect(judged, image_ids=names(judged))) for d in (detector, restored))
    assert before == after
    assert scores(restored.out_of_sample()) == scores(detector.out_of_sample())
    assert any(name.startswith("maps_") for name in detector.state()) == (mode == "bank")


def test_state_of_other_settings_or_with_missing_arrays_is_refused(make_backbone, good_images):
    state = fitted(make_backbone(0), good_images, **BANK).state()
    with pytest.raises(ArtifactError, match="belongs to settings"):
        make(make_backbone(0), **BANK, lowest_fraction=0.5).load_state(state)
    with pytest.raises(ArtifactError, match="maps_1"):
        make(make_backbone(0), **BANK).load_state({name: state[name] for name in state if name != "maps_1"})


def test_unfitted_detector_refuses_to_work(make_backbone, bad_image):
    detector = make(make_backbone(0))
    for call in (lambda: detector.detect([bad_image], image_ids=["bad"]), detector.out_of_sample, detector.state):
        with pytest.raises(GateError, match="not fitted"):
            call()


def test_ids_must_match_the_images(make_backbone, good_images):
    for images, ids in ((good_images, ["a"]), (good_images[:2], ["a", "a"]), ([], [])):
        with pytest.raises(DataError, match="distinct id"):
            make(make_backbone(0)).fit(images, image_ids=ids, group_ids=ids)


def test_images_of_several_sizes_are_brought_to_one(make_backbone, good_images):
    mixed = [*good_images, good_images[0][:40, :64]]
    found = fitted(make_backbone(0), mixed, **BANK).detect(mixed, image_ids=names(mixed))
    assert {one.anomaly_map.shape for one in found} == {(12, 20)}


class BrokenBackbone(nn.Module):
    identity = "broken"
    layers = {"only": LayerInfo(channels=2, stride=8)}  # noqa: RUF012

    def features(self, images, *, layers):
        return dict.fromkeys(layers, torch.full((len(images), 2, 6, 10), torch.nan))


def test_features_that_are_not_finite_are_refused(good_images):
    with pytest.raises(DataError, match="not finite"):
        fitted(BrokenBackbone(), good_images, layers=("only",))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("musc.mode", {"mode": "both"}),
        ("musc.neighbourhoods", {"neighbourhoods": (2,)}),
        ("musc.neighbourhoods", {"neighbourhoods": ()}),
        ("musc.lowest_fraction", {"lowest_fraction": 0.0}),
        ("musc.rescore_neighbours", {"rescore_neighbours": (0,)}),
        ("smoothing_sigma", {"smoothing_sigma": -1.0}),
        ("score_top_fraction", {"score_top_fraction": 1.5}),
        ("score_diffuse", {"score_diffuse": True}),
        ("layers", {"layers": ("third",)}),
        ("layers", {"layers": ()}),
    ],
)
def test_impossible_settings_are_named(make_backbone, name, changes):
    with pytest.raises(ConfigError, match=rf"detector\.{name}"):
        make(make_backbone(0), **changes)
