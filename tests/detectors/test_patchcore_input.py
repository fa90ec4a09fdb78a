"""PatchCore on images that are read on demand, all equal, of several sizes, or give features that are not finite."""

import threading
import weakref
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from velm_train.core.errors import DataError, GateError
from velm_train.detectors.patchcore import PatchCore
from velm_train.detectors.settings import PatchCoreSettings


def make(backbone, **changes) -> PatchCore:
    settings = PatchCoreSettings(
        **{"layers": ("first", "second"), "input_hw": (48, 80), "coreset_fraction": 0.3, **changes}
    )
    return PatchCore(backbone, settings, device=torch.device("cpu"), batch_size=4)


def names(images) -> list[str]:
    return [str(index) for index in range(len(images))]


def fitted(backbone, images, **changes) -> PatchCore:
    detector = make(backbone, **changes)
    detector.fit(images, image_ids=names(images), group_ids=names(images))
    return detector


class LazyOnce(Sequence):
    """Pictures made when they are asked for; counts how often a reading thread asks, and how many are alive."""

    def __init__(self, count: int) -> None:
        self.count, self.asked, self.alive = count, [0] * count, weakref.WeakSet()
        self.most_alive = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        if threading.current_thread() is not threading.main_thread():  # there the check of types reads one at random
            self.asked[index] += 1
        picture = np.random.default_rng(index).integers(0, 256, (48, 80, 3), dtype=np.uint8).view(Picture)
        self.alive.add(picture)
        self.most_alive = max(self.most_alive, len(self.alive))
        return picture


class Picture(np.ndarray):
    """An array that can be watched, and is told from others by what it is, not by what it holds."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


def test_fit_reads_every_image_once_and_holds_two_batches_of_them(make_backbone):
    images = LazyOnce(40)
    detector = make(make_backbone(0), coreset_fraction=0.02)
    detector.fit(images, image_ids=names(images), group_ids=names(images))
    assert images.asked == [1] * 40
    assert images.most_alive <= 9  # two batches of 4, and one that is checked


def test_equal_images_score_zero_and_stay_finite_when_standardised(make_backbone, good_images, bad_image):
    equal = [good_images[0]] * 5
    detector = fitted(make_backbone(0), equal, coreset_fraction=1.0)
    assert max(one.anomaly_score for one in detector.out_of_sample()) < 1e-5  # what batches of other sizes round
    assert detector.detect(equal[:1], image_ids=["again"])[0].anomaly_score < 1e-5
    assert detector.detect([bad_image], image_ids=["bad"])[0].anomaly_score > 0.05
    both = fitted(make_backbone(0), equal, coreset_fraction=1.0, score_diffuse=True)
    usual = [one.anomaly_score for one in both.out_of_sample()]
    (found,) = both.detect([bad_image], image_ids=["bad"])
    assert np.isfinite([*usual, found.anomaly_score]).all()
    assert found.anomaly_score > 1000 * max(*usual, 1.0)  # any difference is far outside hardly any spread


def test_equal_images_whose_coreset_is_one_image_s_are_refused(make_backbone, good_images):
    with pytest.raises(GateError, match="come from one part"):
        fitted(make_backbone(0), [good_images[0]] * 2, coreset_fraction=0.001)


def test_images_of_other_sizes_are_judged_as_if_they_had_been_resized(make_backbone, good_images):
    larger = [image.repeat(2, axis=0).repeat(2, axis=1) for image in good_images]
    mixed = [*good_images[:3], *larger[3:]]
    detector = fitted(make_backbone(0), mixed)
    maps = {one.anomaly_map.shape for one in detector.detect([larger[0], good_images[0]], image_ids=["a", "b"])}
    assert maps == {one.anomaly_map.shape for one in detector.out_of_sample()} == {(12, 20)}
    scores = [one.anomaly_score for one in detector.out_of_sample()]
    assert max(scores) < 3 * min(scores)


def test_features_that_are_not_finite_stop_fit_and_detection(make_backbone, good_images):
    backbone = make_backbone(0)
    detector = fitted(backbone, good_images)
    backbone.first.weight.data[0] = float("nan")
    for call in (lambda: fitted(backbone, good_images), lambda: detector.detect(good_images[:1], image_ids=["a"])):
        with pytest.raises(DataError, match="not finite"):
            call()
