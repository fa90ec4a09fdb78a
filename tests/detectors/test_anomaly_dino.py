"""AnomalyDINO on a real small backbone: distances, background, turned copies, groups, state."""

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from torch.nn import functional as F

from velm_train.core.errors import ArtifactError, ConfigError, DataError, GateError
from velm_train.detectors.anomaly_dino import AnomalyDino
from velm_train.detectors.anomaly_dino_settings import AnomalyDinoSettings
from velm_train.detectors.layer_maps import LayerMaps
from velm_train.detectors.protocol import Detector
from velm_train.detectors.rotations import turned

CPU = torch.device("cpu")
BASE = AnomalyDinoSettings(
    layers=("first",),
    input_hw=(48, 80),
    foreground="off",
    num_rotations=1,
    smoothing_sigma=0.0,
    score_top_fraction=0.01,
    score_diffuse=False,
    half_precision=False,
)


def make(backbone, **changes) -> AnomalyDino:
    return AnomalyDino(backbone, dataclasses.replace(BASE, **changes), device=CPU, batch_size=4)


def names(images) -> list[str]:
    return [str(index) for index in range(len(images))]


def fitted(backbone, images, *, groups=None, **changes) -> AnomalyDino:
    detector = make(backbone, **changes)
    detector.fit(images, image_ids=names(images), group_ids=groups or names(images))
    return detector


def scores(detections) -> list[float]:
    return [one.anomaly_score for one in detections]


@pytest.fixture
def part_images() -> list[np.ndarray]:
    """Six pictures of 48x80 with one bright striped part on a dark ground, each at another place."""
    generator = np.random.default_rng(5)
    images = []
    for shift in range(0, 24, 4):
        image = generator.normal(20, 3, (48, 80, 3))
        image[12:36, 12 + shift : 44 + shift] = (np.arange(32) // 4 % 2 * 30 + 190)[None, :, None]
        images.append(np.clip(image + generator.normal(0, 3, image.shape), 0, 255).astype(np.uint8))
    return images


def test_map_equals_one_minus_the_largest_cosine(make_backbone, good_images, bad_image):
    backbone = make_backbone(0)
    detector = fitted(backbone, good_images, layers=("first", "second"))
    (found,) = detector.detect([bad_image], image_ids=["bad"])
    look = LayerMaps(
        backbone, layers=("first", "second"), input_hw=(48, 80), batch_size=4, device=CPU, half_precision=False
    )

    def unit(images):
        fine, coarse = look(images)
        both = [fine, F.interpolate(coarse, size=(12, 20), mode="bilinear")]
        return [F.normalize(one.double().permute(0, 2, 3, 1).reshape(-1, one.shape[1]), dim=1) for one in both]

    cosines = sum(query @ bank.T for query, bank in zip(unit([bad_image]), unit(good_images), strict=True)) / 2
    np.testing.assert_allclose(
        found.anomaly_map.ravel(), (1 - cosines.amax(dim=1)).numpy(), atol=2e-4
    )  # bank in float16
    highest = np.sort(found.anomaly_map.ravel())[-3:]  # 1 % of 240 patches, rounded up
    assert found.anomaly_score == pytest.approx(highest.mean(), rel=1e-6)


@pytest.mark.parametrize("mixed", [False, True])
def test_detector_finds_the_defect(make_backbone, good_images, bad_image, mixed):
    images = [*good_images, good_images[0][:40, :64]] if mixed else good_images
    detector = fitted(make_backbone(0), images, smoothing_sigma=1.0)
    assert isinstance(detector, Detector)
    (found,) = detector.detect([bad_image], image_ids=["bad"])
    assert found.anomaly_map.dtype == np.float32
    assert found.anomaly_score > max(scores(detector.out_of_sample()))


@pytest.mark.parametrize("changes", [{}, {"num_rotations": 3}, {"foreground": "auto"}, {"foreground": "on"}])
def test_leave_one_group_out_equals_refitting(make_backbone, part_images, changes):
    groups = ["a", "a", "b", "c", "d", "e"]
    whole = fitted(make_backbone(0), part_images, groups=groups, **changes).out_of_sample()
    rest = fitted(make_backbone(0), part_images[2:], **changes)
    for left_out, refitted in zip(whole, rest.detect(part_images[:2], image_ids=["0", "1"]), strict=False):
        np.testing.assert_allclose(left_out.anomaly_map, refitted.anomaly_map, atol=1e-6)
        assert left_out.anomaly_score == pytest.approx(refitted.anomaly_score, rel=1e-4)


def test_background_decision_leaves_the_group_out_too(make_backbone, part_images, good_images):
    """Five parts and one texture: without the texture all show an object apart, with it too few do."""
    mixed = [*part_images[:5], good_images[0]]
    left_out = fitted(make_backbone(0), mixed, foreground="auto").out_of_sample()
    (refitted,) = fitted(make_backbone(0), part_images[:5], foreground="auto").detect([mixed[5]], image_ids=["t"])
    np.testing.assert_allclose(left_out[5].anomaly_map, refitted.anomaly_map, atol=1e-6)
    assert (left_out[0].anomaly_map > 0).all()


def test_background_counts_for_nothing_where_an_object_stands_apart(make_backbone, part_images):
    spoilt = part_images[2].copy()
    spoilt[2:6, 2:6] = (255, 0, 0)
    for foreground, clean in (("auto", True), ("on", True), ("off", False)):
        detector = fitted(make_backbone(0), part_images, foreground=foreground)
        (found,) = detector.detect([spoilt], image_ids=["spoilt"])
        assert (found.anomaly_map[0, 0] == 0) == clean
        assert (found.anomaly_map.max() < 0.2) == clean


def test_auto_keeps_the_whole_of_a_texture(make_backbone, good_images, bad_image):
    auto, off = (
        fitted(make_backbone(0), good_images, foreground=choice).detect([bad_image], image_ids=["bad"])[0]
        for choice in ("auto", "off")
    )
    np.testing.assert_array_equal(auto.anomaly_map, off.anomaly_map)


def test_turned_copies_make_a_turned_part_normal_and_leave_with_their_group(make_backbone, part_images):
    plain, turning = (fitted(make_backbone(0), part_images, num_rotations=count) for count in (1, 4))
    (before,), (after,) = (
        one.detect([turned(part_images[0], degrees=90)], image_ids=["turned"]) for one in (plain, turning)
    )
    assert after.anomaly_score < 1e-4 < before.anomaly_score
    assert len(turning.state()["bank"]) == 4 * len(plain.state()["bank"])
    assert min(scores(turning.out_of_sample())) > 1e-4


def test_few_and_identical_images(make_backbone, good_images, bad_image):
    single = fitted(make_backbone(0), good_images[:1])
    assert single.detect([bad_image], image_ids=["bad"])[0].anomaly_score > 0
    together = fitted(make_backbone(0), good_images[:2], groups=["a", "a"])
    for detector in (single, together):
        with pytest.raises(GateError, match="1 image or group"):
            detector.out_of_sample()
    same = fitted(make_backbone(0), [good_images[0]] * 3, foreground="auto").out_of_sample()
    assert max(scores(same)) < 1e-5
    grey = [np.full((48, 80, 3), 90, dtype=np.uint8)] * 2
    assert np.isfinite(scores(fitted(make_backbone(0), grey, foreground="on").out_of_sample())).all()
    assert single.detect([], image_ids=[]) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": ("second",)},
        {"input_hw": (40, 64)},
        {"foreground": "on"},
        {"num_rotations": 2},
        {"smoothing_sigma": 1.0},
        {"score_top_fraction": 0.2},
        {"score_diffuse": True},
        {"half_precision": True},
    ],
)
def test_every_knob_changes_score_and_identity(make_backbone, part_images, bad_image, changes):
    base, changed = (fitted(make_backbone(0), part_images, **some) for some in ({}, changes))
    judged = [bad_image, *part_images]
    one, two = (scores(d.detect(judged, image_ids=names(judged))) for d in (base, changed))
    assert one != two
    assert base.settings_hash != changed.settings_hash
    assert base.identity != changed.identity


def test_state_survives_an_array_file(make_backbone, part_images, bad_image):
    detector = fitted(make_backbone(0), part_images, foreground="auto")
    restored = make(make_backbone(0), foreground="auto")
    restored.load_state(load(save(detector.state())))
    assert restored.identity == detector.identity
    before, after = (one.detect([bad_image], image_ids=["bad"])[0] for one in (detector, restored))
    np.testing.assert_array_equal(before.anomaly_map, after.anomaly_map)
    assert scores(restored.out_of_sample()) == scores(detector.out_of_sample())
    state = detector.state()
    with pytest.raises(ArtifactError, match="belongs to settings"):
        make(make_backbone(0)).load_state(state)
    with pytest.raises(ArtifactError, match="separable"):
        restored.load_state({name: state[name] for name in state if name != "separable"})


def test_unfitted_detector_and_wrong_ids_are_refused(make_backbone, good_images):
    detector = make(make_backbone(0))
    for call in (lambda: detector.detect(good_images, image_ids=["0"]), detector.out_of_sample, detector.state):
        with pytest.raises(GateError, match="not fitted"):
            call()
    for images, ids in ((good_images, ["a"]), (good_images[:2], ["a", "a"]), ([], [])):
        with pytest.raises(DataError, match="distinct id"):
            detector.fit(images, image_ids=ids, group_ids=ids)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("anomaly_dino.foreground", {"foreground": "sometimes"}),
        ("anomaly_dino.num_rotations", {"num_rotations": 9}),
        ("smoothing_sigma", {"smoothing_sigma": -1.0}),
        ("score_top_fraction", {"score_top_fraction": 1.5}),
        ("layers", {"layers": ("third",)}),
    ],
)
def test_impossible_settings_are_named(make_backbone, name, changes):
    with pytest.raises(ConfigError, match=rf"detector\.{name}"):
        make(make_backbone(0), **changes)
