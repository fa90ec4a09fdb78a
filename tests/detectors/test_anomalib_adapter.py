"""anomalib behind the detector's interface: raw scores, restored state, folds, and clear refusals."""

import importlib.util
import json
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from velm_train.core.errors import ArtifactError, AssetError, ConfigError, DataError, GateError
from velm_train.detectors.anomalib_adapter import AnomalibDetector
from velm_train.detectors.anomalib_models import AnomalibSettings, own_randomness
from velm_train.detectors.folds import KFoldDetector
from velm_train.detectors.protocol import Detector

CPU = torch.device("cpu")
PADIM = {"backbone": "resnet18", "layers": ["layer1", "layer2"], "pre_trained": False}
RANDOM_MODELS = {
    "Padim": PADIM,
    "Patchcore": PADIM,
    "Dfm": {"backbone": "resnet18", "layer": "layer2", "pre_trained": False},
}


def make(model: str = "Padim", arguments: object = PADIM, **changes) -> AnomalibDetector:
    settings = {"input_hw": (48, 80), "max_epochs": 1, "seed": 0, **changes}
    return AnomalibDetector(
        AnomalibSettings(model=model, arguments=json.dumps(arguments), **settings), device=CPU, batch_size=4
    )


def names(images) -> list[str]:
    return [str(index) for index in range(len(images))]


def fitted(images, *args, **changes) -> AnomalibDetector:
    detector = make(*args, **changes)
    detector.fit(images, image_ids=names(images), group_ids=names(images))
    return detector


@pytest.fixture(autouse=True)
def without_network(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_adapter_is_a_detector_that_needs_folds():
    detector = make()
    assert isinstance(detector, Detector)
    assert (detector.needs, detector.transductive, detector.calibration) == ({"normals"}, False, "k_fold")


@pytest.mark.parametrize(
    ("model", "arguments", "changes", "message"),
    [
        ("Padim", [1], {}, "write a JSON object"),
        ("Padim", {"post_processor": True}, {}, "scores are read raw"),
        ("Padim", {}, {"max_epochs": 0}, r"max_epochs is 0"),
    ],
)
def test_impossible_settings_are_named(model, arguments, changes, message):
    with pytest.raises(ConfigError, match=message):
        make(model, arguments, **changes)
    with pytest.raises(ConfigError, match="write a JSON object"):
        AnomalibSettings(model="Padim", arguments="{", max_epochs=1, input_hw=(48, 80), seed=0)


def test_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install -e \.\[detectors\]"):
        make()


def test_unfitted_detector_and_wrong_ids_are_refused(good_images):
    detector = make()
    for call in (lambda: detector.detect(good_images, image_ids=["0"]), detector.out_of_sample, detector.state):
        with pytest.raises(GateError, match="not fitted"):
            call()
    for images, ids in ((good_images, ["a"]), (good_images[:2], ["a", "a"]), ([], [])):
        with pytest.raises(DataError, match="distinct id"):
            detector.fit(images, image_ids=ids, group_ids=ids)


def test_every_setting_changes_the_settings_hash():
    hashes = {make(**changes).settings_hash for changes in ({}, {"seed": 1}, {"max_epochs": 2}, {"input_hw": (64, 64)})}
    hashes |= {make("Patchcore").settings_hash, make("Padim", {}).settings_hash}
    assert len(hashes) == 6


def test_global_generators_are_seeded_inside_and_untouched_outside():
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(1))  # noqa: NPY002 - what anomalib does

    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    with own_randomness(3):
        first = draw()
    with own_randomness(3):
        assert draw() == first
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002


class FixedMap(torch.nn.Module):
    """A network whose output no state_dict holds."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, pixels: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(pred_score=None, anomaly_map=torch.full((len(pixels), 1, 3, 5), self.value))


def test_network_that_is_another_after_it_is_restored_is_refused():
    pixels = torch.zeros((2, 3, 48, 80), dtype=torch.uint8)
    one, same, other = (torch.nn.Sequential(FixedMap(value)) for value in (1.0, 1.0, 2.0))
    make()._require_same(one, same, pixels)
    for restored in (other, torch.nn.Sequential(FixedMap(float("nan")))):
        with pytest.raises(ConfigError, match="outside its state_dict"):
            make()._require_same(one, restored, pixels)


@pytest.mark.slow
@pytest.mark.parametrize("model", RANDOM_MODELS)
def test_raw_scores_find_the_defect_and_survive_an_array_file(model, good_images, bad_image, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = [*good_images[:5], good_images[5][:40, :64]]
    detector = fitted(images, model, RANDOM_MODELS[model])
    found = detector.detect([good_images[1], bad_image], image_ids=["good", "bad"])
    assert found[1].anomaly_score > found[0].anomaly_score
    assert found[1].anomaly_map.shape == (48, 80)
    assert found[1].anomaly_map.dtype == np.float32
    row, column = np.unravel_index(found[1].anomaly_map.argmax(), (48, 80))
    assert 20 <= row < 44
    assert 52 <= column < 76
    restored = make(model, RANDOM_MODELS[model])
    restored.load_state(load(save(detector.state())))
    assert restored.identity == detector.identity != make(model, RANDOM_MODELS[model]).identity
    again = restored.detect([good_images[1], bad_image], image_ids=["good", "bad"])
    np.testing.assert_allclose(again[1].anomaly_map, found[1].anomaly_map, rtol=1e-4, atol=1e-6)
    with pytest.raises(GateError, match=r"detector\.num_folds"):
        detector.out_of_sample()
    assert not list(tmp_path.iterdir()), "nothing is left in the working folder"


@pytest.mark.slow
def test_scores_equal_those_of_the_bare_network(good_images, bad_image):
    """A clamped or scaled score would lie in 0..1; Mahalanobis distances do not."""
    (found,) = fitted(good_images).detect([bad_image], image_ids=["bad"])
    assert found.anomaly_score > 1
    assert found.anomaly_score == pytest.approx(found.anomaly_map.max())


@pytest.mark.slow
def test_folds_make_out_of_sample_scores(good_images, bad_image):
    detector = KFoldDetector(make, num_folds=2, seed=0)
    detector.fit(good_images, image_ids=names(good_images), group_ids=names(good_images))
    left_out = [one.anomaly_score for one in detector.out_of_sample()]
    in_sample = [one.anomaly_score for one in detector.detect(good_images, image_ids=names(good_images))]
    assert np.mean(left_out) > np.mean(in_sample)
    restored = KFoldDetector(make, num_folds=2, seed=0)
    restored.load_state(load(save(detector.state())))
    assert restored.identity == detector.identity
    fresh = KFoldDetector(make, num_folds=2, seed=0)
    fresh.fit(good_images, image_ids=names(good_images), group_ids=names(good_images))
    assert fresh.identity == detector.identity, "the same seed gives the same model"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "arguments", "error", "message"),
    [
        ("Padmi", {}, ConfigError, "did you mean 'Padim'"),
        ("Padim", {"backbon": "resnet18"}, ConfigError, r"has no \['backbon'\]; known are backbone, layers"),
        ("Ganomaly", {}, ConfigError, "gives no anomaly map"),
        ("Dfkde", {"pre_trained": False}, ConfigError, "cannot judge images"),
        ("Padim", {"backbone": "resnet18"}, AssetError, r"timm/resnet18\S+, which is not on disk.*looked for in /"),
    ],
)
def test_models_that_cannot_serve_are_refused(good_images, model, arguments, error, message):
    with pytest.raises(error, match=message):
        fitted(good_images, model, arguments, input_hw=(64, 96))


@pytest.mark.slow
def test_one_image_and_identical_images_are_finite_or_refused(good_images, bad_image):
    same = fitted([good_images[0]] * 3, "Patchcore", PADIM)
    found = same.detect([good_images[0], bad_image], image_ids=["same", "bad"])
    assert found[0].anomaly_score < found[1].anomaly_score / 5
    assert np.isfinite(
        fitted(good_images[:1], "Patchcore", PADIM).detect([bad_image], image_ids=["b"])[0].anomaly_score
    )
    with pytest.raises((ConfigError, DataError), match="Padim"):
        fitted(good_images[:1])


@pytest.mark.slow
def test_state_of_other_settings_or_another_model_is_refused(good_images):
    state = fitted(good_images).state()
    with pytest.raises(ArtifactError, match="belongs to settings"):
        make(seed=1).load_state(state)
    weight = next(name for name in state if name.startswith("network."))
    with pytest.raises(ArtifactError, match="does not fit Padim"):
        make().load_state({name: state[name] for name in state if name != weight})
    with pytest.raises(ArtifactError, match="instead of"):
        make().load_state({**state, "x": state["image_ids"]})
