"""PatchCore on a real small backbone: scores, leave-one-out, knobs, state."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from sklearn.neighbors import NearestNeighbors

from velm_train.core.errors import ArtifactError, ConfigError, DataError, GateError
from velm_train.detectors.patch_features import PatchExtractor
from velm_train.detectors.patchcore import PatchCore
from velm_train.detectors.protocol import Detector
from velm_train.detectors.settings import PatchCoreSettings

CPU = torch.device("cpu")


def make(backbone, **changes) -> PatchCore:
    settings = PatchCoreSettings(
        **{"layers": ("first", "second"), "input_hw": (48, 80), "coreset_fraction": 0.3, **changes}
    )
    return PatchCore(backbone, settings, device=CPU, batch_size=4)


def names(images) -> list[str]:
    return [str(index) for index in range(len(images))]


def fitted(backbone, images, **changes) -> PatchCore:
    detector = make(backbone, **changes)
    detector.fit(images, image_ids=names(images), group_ids=names(images))
    return detector


def test_patchcore_is_a_detector(make_backbone):
    detector = make(make_backbone(0))
    assert isinstance(detector, Detector)
    assert detector.transductive is False


def test_defect_scores_above_every_good_image_and_peaks_at_its_place(make_backbone, good_images, bad_image):
    detector = fitted(make_backbone(0), good_images)
    (detection,) = detector.detect([bad_image], image_ids=["bad"])
    assert detection.anomaly_score > max(loo.anomaly_score for loo in detector.out_of_sample())
    assert detection.anomaly_map.shape == (12, 20)
    assert detection.anomaly_map.dtype == np.float32
    row, column = np.unravel_index(detection.anomaly_map.argmax(), (12, 20))
    assert 24 - 4 <= row * 4 < 40 + 4
    assert 56 - 4 <= column * 4 < 72 + 4


def test_full_bank_map_equals_scikit_learn(make_backbone, good_images, bad_image):
    backbone = make_backbone(0)
    detector = fitted(
        backbone, good_images, coreset_fraction=1.0, max_patches=10**6, smoothing_sigma=0.0, even_edges=False
    )
    extract = PatchExtractor(
        backbone, layers=("first", "second"), input_hw=(48, 80), batch_size=4, device=CPU, half_precision=False
    )
    values = extract(good_images).values
    scales = extract.channel_scales(extract.mean_norms(values))
    bank = (values * scales).flatten(0, 1).numpy()
    query = (extract([bad_image]).values[0] * scales).numpy()
    expected = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(bank).kneighbors(query)[0][:, 0]
    (detection,) = detector.detect([bad_image], image_ids=["bad"])
    np.testing.assert_allclose(detection.anomaly_map.ravel(), expected, rtol=1e-4, atol=1e-5)
    assert detection.anomaly_score == detection.anomaly_map.max()


@pytest.mark.parametrize("reweight", [False, True])
def test_leave_one_out_equals_refitting_without_the_image_on_the_full_bank(make_backbone, good_images, reweight):
    changes = {"coreset_fraction": 1.0, "max_patches": 10**6, "reweight": reweight}
    detector = fitted(make_backbone(0), good_images, **changes)
    for left_out, loo in enumerate(detector.out_of_sample()):
        others = [image for index, image in enumerate(good_images) if index != left_out]
        refit = fitted(make_backbone(0), others, **changes)
        (refitted,) = refit.detect([good_images[left_out]], image_ids=["left out"])
        np.testing.assert_allclose(loo.anomaly_map, refitted.anomaly_map, rtol=1e-5)
        assert loo.anomaly_score == pytest.approx(refitted.anomaly_score, rel=1e-5)


def test_leave_one_out_is_above_the_in_sample_score(make_backbone, good_images):
    detector = fitted(make_backbone(0), good_images, coreset_fraction=1.0)
    in_sample = detector.detect(good_images, image_ids=names(good_images))
    assert all(one.anomaly_score < 1e-3 for one in in_sample)
    assert all(one.anomaly_score > 0.05 for one in detector.out_of_sample())


def test_single_fitted_image_cannot_be_left_out(make_backbone, good_images, bad_image):
    detector = fitted(make_backbone(0), good_images[:1])
    assert detector.detect([bad_image], image_ids=["bad"])[0].anomaly_score > 0
    with pytest.raises(GateError, match="fitted on 1 image"):
        detector.out_of_sample()


def test_bank_of_one_image_s_vectors_is_refused(make_backbone, good_images):
    with pytest.raises(GateError, match="max_patches"):
        fitted(make_backbone(0), good_images, max_patches=1)


def test_bank_size_follows_fraction_and_cap(make_backbone, good_images):
    assert len(fitted(make_backbone(0), good_images, coreset_fraction=0.1).state()["bank"]) == 144  # of 6 * 240
    assert len(fitted(make_backbone(0), good_images, coreset_fraction=0.1, max_patches=99).state()["bank"]) == 99


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": ("first",)},
        {"input_hw": (40, 64)},
        {"coreset_fraction": 0.05},
        {"max_patches": 50},
        {"smoothing_sigma": 0.0},
        {"even_edges": False},
        {"score_top_fraction": 0.2},
        {"reweight": True},
        {"reweight": True, "num_neighbours": 3},
        {"seed": 1},
    ],
)
def test_every_knob_changes_score_and_identity(make_backbone, good_images, bad_image, changes):
    base_changes = {"reweight": True} if "num_neighbours" in changes else {}
    base = fitted(make_backbone(0), good_images, **base_changes)
    changed = fitted(make_backbone(0), good_images, **changes)
    images = [bad_image, *good_images]
    scores, other = ([one.anomaly_score for one in d.detect(images, image_ids=names(images))] for d in (base, changed))
    assert scores != other
    assert base.settings_hash != changed.settings_hash
    assert base.identity != changed.identity


def test_top_fraction_is_the_mean_of_the_largest_values(make_backbone, good_images, bad_image):
    detector = fitted(make_backbone(0), good_images, score_top_fraction=0.1)
    (detection,) = detector.detect([bad_image], image_ids=["bad"])
    expected = np.sort(detection.anomaly_map.ravel())[-24:].astype(np.float64).mean()
    assert detection.anomaly_score == pytest.approx(expected, rel=1e-7)


def test_fit_is_deterministic_and_batches_do_not_matter(make_backbone, good_images, bad_image):
    one, two = fitted(make_backbone(0), good_images), fitted(make_backbone(0), good_images)
    assert one.identity == two.identity
    together = one.detect([*good_images, bad_image], image_ids=names([*good_images, bad_image]))
    (alone,) = one.detect([bad_image], image_ids=["bad"])
    np.testing.assert_allclose(together[-1].anomaly_map, alone.anomaly_map, atol=1e-6)


def test_identity_depends_on_backbone_and_images(make_backbone, good_images):
    base = fitted(make_backbone(0), good_images)
    assert make(make_backbone(0)).identity != base.identity
    assert fitted(make_backbone(1), good_images).identity != base.identity
    assert fitted(make_backbone(0), good_images[:5]).identity != base.identity


def test_state_survives_an_array_file(make_backbone, good_images, bad_image):
    detector = fitted(make_backbone(0), good_images)
    restored = make(make_backbone(0))
    restored.load_state(load(save(detector.state())))
    assert restored.identity == detector.identity
    assert restored.fitted_image_ids == [str(index) for index in range(6)]
    again, before = (one.detect([bad_image], image_ids=["bad"])[0] for one in (restored, detector))
    assert again.anomaly_score == before.anomaly_score
    for one, two in zip(restored.out_of_sample(), detector.out_of_sample(), strict=True):
        assert one.anomaly_score == two.anomaly_score
        np.testing.assert_array_equal(one.anomaly_map, two.anomaly_map)


def test_state_of_other_settings_or_with_missing_arrays_is_refused(make_backbone, good_images):
    state = fitted(make_backbone(0), good_images).state()
    with pytest.raises(ArtifactError, match="belongs to settings"):
        make(make_backbone(0), seed=1).load_state(state)
    with pytest.raises(ArtifactError, match="bank_image"):
        make(make_backbone(0)).load_state({name: state[name] for name in state if name != "bank_image"})


def test_unfitted_detector_refuses_to_work(make_backbone, bad_image):
    detector = make(make_backbone(0))
    for call in (lambda: detector.detect([bad_image], image_ids=["bad"]), detector.out_of_sample, detector.state):
        with pytest.raises(GateError, match="not fitted"):
            call()
    assert len(detector.settings_hash) == 64


def test_ids_must_match_the_images(make_backbone, good_images):
    detector = make(make_backbone(0))
    for images, ids in ((good_images, ["a"]), (good_images[:2], ["a", "a"]), ([], [])):
        with pytest.raises(DataError, match="distinct id"):
            detector.fit(images, image_ids=ids, group_ids=ids)


def test_unknown_layer_is_refused_before_anything_is_computed(make_backbone):
    with pytest.raises(ConfigError, match="third"):
        make(make_backbone(0), layers=("third",))


def test_no_images_give_no_detections(make_backbone, good_images):
    assert fitted(make_backbone(0), good_images).detect([], image_ids=[]) == []
    assert json.dumps(fitted(make_backbone(0), good_images[:2]).fitted_image_ids) == '["0", "1"]'


def test_diffuse_score_is_the_larger_statistic_in_deviations_of_the_other_left_out_images(
    make_backbone, good_images, bad_image
):
    backbone = make_backbone(0)
    plain = fitted(backbone, good_images, coreset_fraction=1.0, max_patches=10**6)
    both = fitted(backbone, good_images, coreset_fraction=1.0, max_patches=10**6, score_diffuse=True)
    usual = np.array([[d.anomaly_score, d.anomaly_map.mean()] for d in plain.out_of_sample()])

    def deviations(statistics, others):
        return max((statistics[i] - others[:, i].mean()) / others[:, i].std() for i in range(2))

    found = plain.detect([bad_image], image_ids=["bad"])[0]
    expected = deviations([found.anomaly_score, found.anomaly_map.mean()], usual)
    assert both.detect([bad_image], image_ids=["bad"])[0].anomaly_score == pytest.approx(expected, rel=1e-4)
    for index, detection in enumerate(both.out_of_sample()):
        expected = deviations(usual[index], np.delete(usual, index, axis=0))
        assert detection.anomaly_score == pytest.approx(expected, rel=1e-4)


def test_diffuse_score_needs_two_other_images(make_backbone, good_images):
    with pytest.raises(GateError, match="score_diffuse"):
        fitted(make_backbone(0), good_images[:2], coreset_fraction=1.0, score_diffuse=True)


def test_images_of_one_part_are_left_out_together(make_backbone, good_images):
    doubled = [*good_images, good_images[0]]
    detector = make(make_backbone(0))
    detector.fit(doubled, image_ids=names(doubled), group_ids=[*names(good_images), "0"])
    first, *_, copy = detector.out_of_sample()
    apart = make(make_backbone(0))
    apart.fit(doubled, image_ids=names(doubled), group_ids=names(doubled))
    assert first.anomaly_score == copy.anomaly_score > 0.05
    assert apart.out_of_sample()[0].anomaly_score < first.anomaly_score


@pytest.mark.parametrize("reweight", [False, True])
def test_leaving_out_a_group_equals_refitting_without_it_on_the_full_bank(make_backbone, good_images, reweight):
    groups = ["a", "b", "a", "c", "b", "a"]
    changes = {"coreset_fraction": 1.0, "max_patches": 10**6, "reweight": reweight}
    detector = make(make_backbone(0), **changes)
    detector.fit(good_images, image_ids=names(good_images), group_ids=groups)
    for group in "abc":
        inside = [index for index in range(6) if groups[index] == group]
        outside = [index for index in range(6) if groups[index] != group]
        refit = make(make_backbone(0), **changes)
        refit.fit(
            [good_images[index] for index in outside],
            image_ids=[str(index) for index in outside],
            group_ids=[groups[index] for index in outside],
        )
        found = refit.detect([good_images[index] for index in inside], image_ids=[str(index) for index in inside])
        for index, refitted in zip(inside, found, strict=True):
            left_out = detector.out_of_sample()[index]
            np.testing.assert_allclose(left_out.anomaly_map, refitted.anomaly_map, rtol=1e-5)
            assert left_out.anomaly_score == pytest.approx(refitted.anomaly_score, rel=1e-5)


def test_coreset_and_left_out_distances_equal_the_method_written_out(make_backbone, good_images):
    """Four groups, two layers, 16 channels (fewer than 64 are not projected), in double precision."""
    backbone = make_backbone(0)
    groups = np.array([0, 0, 1, 2, 3, 3])
    detector = make(backbone, coreset_fraction=0.05, smoothing_sigma=0.0, even_edges=False)
    detector.fit(good_images, image_ids=names(good_images), group_ids=[str(group) for group in groups])
    state = detector.state()
    extract = PatchExtractor(
        backbone, layers=("first", "second"), input_hw=(48, 80), batch_size=4, device=CPU, half_precision=False
    )
    values = torch.cat([extract(good_images[:4]).values, extract(good_images[4:]).values]).numpy().astype(np.float64)
    norms = np.stack([np.linalg.norm(part, axis=2).mean(axis=1) for part in (values[..., :6], values[..., 6:])], axis=1)

    def scale(images: np.ndarray) -> np.ndarray:
        return np.repeat(1 / norms[images].mean(axis=0), [6, 10])

    points = (values * scale(np.arange(6))).reshape(-1, 16)
    (first,) = np.flatnonzero((values.reshape(-1, 16).astype(np.float32) == state["bank"][0]).all(axis=1))
    selected = [int(first)]
    while len(selected) < 72:  # 5 % of 1440
        distances = np.linalg.norm(points[:, None] - points[None, selected], axis=2).min(axis=1)
        selected.append(int(distances.argmax()))
    np.testing.assert_array_equal(state["bank"], values.reshape(-1, 16).astype(np.float32)[selected])
    assert state["bank_image"].tolist() == [row // 240 for row in selected]
    for index, left_out in enumerate(detector.out_of_sample()):
        others = groups != groups[index]
        bank = state["bank"][others[state["bank_image"]]] * scale(others)
        patches = values[index] * scale(others)
        expected = np.linalg.norm(patches[:, None] - bank[None], axis=2).min(axis=1)
        np.testing.assert_allclose(left_out.anomaly_map.ravel(), expected, rtol=1e-5)
        assert left_out.anomaly_score == pytest.approx(expected.max(), rel=1e-5)
