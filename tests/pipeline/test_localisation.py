"""Maps are scored on the image's own pixels; defects without an outline are left out and counted."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from velm_train.core.images import read_gt_masks
from velm_train.pipeline.localisation import localise
from velm_train.pipeline.looking import GatedImage, look
from velm_train.regions.resample import upsample_map

NAMES = ("test/spot/001.png", "test/good/000.png")


@pytest.fixture
def judged(parts, detections, gates, region_settings) -> list[GatedImage]:
    return [
        look(
            record,
            detections["felt"].detections[record.image_id],
            gates["felt"],
            role="test",
            group="seen",
            policy="detector",
            settings=region_settings,
        )
        for record in (parts.one("felt", name) for name in NAMES)
    ]


def test_pixel_auroc_is_that_of_the_upsampled_maps(judged) -> None:
    found = localise({"felt": judged}, num_bootstrap=20, seed=0)
    masks = [
        read_gt_masks(one.record.gt_mask_paths, size_hw=one.record.size_hw)
        if one.record.gt_label
        else np.zeros(one.record.size_hw, dtype=bool)
        for one in judged
    ]
    maps = [upsample_map(one.detection.anomaly_map, one.record.size_hw) for one in judged]
    exact = roc_auc_score(np.concatenate([m.ravel() for m in masks]), np.concatenate([m.ravel() for m in maps]))
    assert found.overall.pixel_auroc.value == pytest.approx(exact, abs=5e-4)
    assert found.overall.aupro.value is not None
    assert found.overall.aupro.value > 0.8
    assert found.categories["felt"] == found.overall
    assert found.overall.aupro.n == 2


def test_defect_without_a_mask_is_left_out_and_said(judged) -> None:
    blind = [dataclasses.replace(one, record=dataclasses.replace(one.record, gt_mask_paths=())) for one in judged]
    found = localise({"felt": judged, "wool": blind}, num_bootstrap=5, seed=0)
    assert found.categories["wool"].aupro.value is None
    assert "defective images without a mask left out: 1" in found.overall.aupro.note
    assert "without wool: no defect masks" in found.overall.aupro.note
    assert found.overall.aupro.value == pytest.approx(found.categories["felt"].aupro.value)


def test_category_without_images_has_no_figure() -> None:
    assert localise({"felt": []}, num_bootstrap=5, seed=0).overall.aupro.value is None
