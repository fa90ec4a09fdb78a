"""A backbone as an encoder of views says what the detector's patches say."""

import numpy as np
import pytest
import torch

from velm_train.assets.library import AssetLibrary
from velm_train.backbones.load import load_backbone
from velm_train.backbones.protocol import Backbone
from velm_train.detectors.patch_features import PatchExtractor
from velm_train.pipeline.backbone_views import BackboneViews

INPUT_HW = (56, 84)
LAYERS = ("block3", "block6")


@pytest.fixture(scope="module")
def backbone(assets: AssetLibrary) -> Backbone:
    return load_backbone("dinov2_small", assets=assets)


def make(backbone: Backbone, *, layers=LAYERS, input_hw=INPUT_HW, half_precision=False) -> BackboneViews:
    return BackboneViews(
        backbone, layers=layers, input_hw=input_hw, half_precision=half_precision, device=torch.device("cpu")
    )


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8) for size_hw in ((40, 70), (90, 30))]


def test_features_are_the_detectors_patches(backbone, pictures) -> None:
    evidence = make(backbone).encode_views(pictures)
    extract = PatchExtractor(
        backbone, layers=LAYERS, input_hw=INPUT_HW, batch_size=2, device=torch.device("cpu"), half_precision=False
    )
    assert torch.equal(evidence.final, extract(pictures).values)
    assert evidence.final.shape == (2, 4 * 6, 2 * 384)
    assert evidence.grid_hw.tolist() == [[4, 6], [4, 6]]
    assert evidence.levels.numel() == 0
    assert make(backbone).evidence_shape((40, 70)) == (1, 4 * 6)
    assert evidence.valid.all()
    assert evidence.view_index.tolist() == [0, 1]


def test_a_view_alone_is_the_same(backbone, pictures) -> None:
    together, alone = make(backbone).encode_views(pictures), make(backbone).encode_views(pictures[1:])
    torch.testing.assert_close(together.final[1:], alone.final, rtol=1e-4, atol=1e-4)


def test_identity_tells_what_changes_the_features(backbone) -> None:
    first = make(backbone).evidence_identity
    assert make(backbone).evidence_identity == first
    others = [
        make(backbone, layers=LAYERS[::-1]),
        make(backbone, input_hw=(56, 98)),
        make(backbone, half_precision=True),
    ]
    assert len({first, *(one.evidence_identity for one in others)}) == 4
