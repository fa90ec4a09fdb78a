"""Several encoders as one."""

import pytest
import torch

from velm_train.backbones.protocol import Backbone
from velm_train.core.errors import ConfigError
from velm_train.detectors.joined import JoinedBackbone
from velm_train.detectors.patchcore import PatchCore
from velm_train.detectors.settings import PatchCoreSettings


def test_layers_are_those_of_each_encoder(make_backbone):
    one, two = make_backbone(0), make_backbone(1)
    joined: Backbone = JoinedBackbone({"one": one, "two": two})
    images = torch.rand(2, 3, 48, 80, generator=torch.Generator().manual_seed(0))
    maps = joined.features(images, layers=["two/second", "one/first"])
    assert list(maps) == ["two/second", "one/first"]
    assert torch.equal(maps["one/first"], one.features(images, layers=["first"])["first"])
    assert torch.equal(maps["two/second"], two.features(images, layers=["second"])["second"])
    assert joined.layers["two/second"] == two.layers["second"]


def test_each_encoder_gets_a_size_that_suits_it(make_backbone):
    joined = JoinedBackbone({"one": make_backbone(0)})
    maps = joined.features(torch.rand(1, 3, 50, 77), layers=["one/second"])
    assert maps["one/second"].shape == (1, 10, 6, 10)  # 48 x 80 is the nearest multiple of stride 8


def test_identity_depends_on_encoders_not_on_their_order(make_backbone):
    one, two = make_backbone(0), make_backbone(1)
    joined = JoinedBackbone({"one": one, "two": two})
    assert joined.identity == JoinedBackbone({"two": two, "one": one}).identity
    assert joined.identity != JoinedBackbone({"one": one}).identity


def test_patchcore_runs_on_joined_encoders(make_backbone, good_images, bad_image):
    settings = PatchCoreSettings(layers=("one/first", "two/second"), input_hw=(48, 80))
    joined = JoinedBackbone({"one": make_backbone(0), "two": make_backbone(1)})
    detector = PatchCore(joined, settings, device=torch.device("cpu"))
    detector.fit(good_images, image_ids=[str(index) for index in range(6)])
    worst_good = max(loo.anomaly_score for loo in detector.leave_one_out())
    assert detector.detect([bad_image])[0].anomaly_score > worst_good


def test_unknown_layer_and_no_encoder_are_refused(make_backbone):
    with pytest.raises(ConfigError, match="one/first"):
        JoinedBackbone({"one": make_backbone(0)}).features(torch.rand(1, 3, 48, 80), layers=["first"])
    with pytest.raises(ConfigError, match="empty"):
        JoinedBackbone({})
