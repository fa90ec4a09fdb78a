"""Regions of maps and masks: where they are, which are kept, and when the whole image is one."""

import numpy as np
import pytest

from velm_train.core.errors import DataError
from velm_train.core.records import Detection, Region
from velm_train.regions.extract import regions_from_gt_mask, regions_from_map


def detection(anomaly_map: np.ndarray, size_hw: tuple[int, int]) -> Detection:
    return Detection(
        image_id="set/bolt/x",
        detector_hash="d" * 64,
        anomaly_score=float(anomaly_map.max()),
        anomaly_map=anomaly_map.astype(np.float32),
        image_size_hw=size_hw,
        out_of_sample=True,
    )


def extract(anomaly_map: np.ndarray, size_hw: tuple[int, int], **changes) -> list[Region]:
    arguments = {
        "binarisation": "threshold",
        "pixel_threshold": 0.5,
        "min_area_px": 1,
        "merge_distance_px": 0,
        "max_regions": 5,
        "diffuse_fraction": 0.5,
    }
    return regions_from_map(detection(anomaly_map, size_hw), **{**arguments, **changes})


@pytest.mark.parametrize(("size_hw", "grid_hw"), [((240, 400), (24, 40)), ((333, 517), (20, 33)), ((90, 50), (31, 17))])
@pytest.mark.parametrize("blob_xyxy", [(0.1, 0.2, 0.3, 0.5), (0.7, 0.6, 0.95, 0.9), (0.0, 0.8, 0.2, 1.0)])
def test_box_lies_where_the_blob_is_within_one_cell(size_hw, grid_hw, blob_xyxy):
    (height, width), (rows, columns) = size_hw, grid_hw
    x0, y0, x1, y1 = blob_xyxy
    centres_y, centres_x = (np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns
    blob = ((centres_y >= y0) & (centres_y < y1))[:, None] & ((centres_x >= x0) & (centres_x < x1))[None]
    (region,) = extract(blob.astype(np.float32), size_hw)
    expected = np.array([x0 * width, y0 * height, x1 * width, y1 * height])
    cell = np.array([width / columns, height / rows] * 2)
    assert (np.abs(np.array(region.box_xyxy) - expected) <= cell).all()
    assert region.source == "detector"
    contour_box = np.concatenate([region.contour.min(axis=0), region.contour.max(axis=0) + 1])
    np.testing.assert_allclose(contour_box, region.box_xyxy, atol=1)


def test_threshold_is_strict():
    anomaly_map = np.full((4, 6), 0.5)
    anomaly_map[1, 2] = 0.75
    (region,) = extract(anomaly_map, (4, 6))
    assert region.box_xyxy == (2, 1, 3, 2)
    assert (region.area_px, region.peak_score) == (1, 0.75)


def test_nothing_above_the_threshold_is_the_whole_image():
    (region,) = extract(np.full((4, 6), 0.5), (40, 60))
    assert region.source == "whole_image"
    assert region.box_xyxy == (0, 0, 60, 40)
    assert (region.area_px, region.peak_score, len(region.contour)) == (2400, 0.5, 0)


def test_diffuse_map_is_the_whole_image():
    anomaly_map = np.zeros((10, 12))
    anomaly_map[:6] = 1.0  # 60 %
    assert [region.source for region in extract(anomaly_map, (10, 12), diffuse_fraction=0.59)] == ["whole_image"]
    assert [region.source for region in extract(anomaly_map, (10, 12), diffuse_fraction=0.6)] == ["detector"]


def test_mebin_cuts_above_the_pixel_threshold_where_components_are_stable():
    rows, columns = np.mgrid[:48, :64]
    blob = np.exp(-((rows - 20) ** 2 + (columns - 30) ** 2) / 150)
    anomaly_map = np.maximum(blob, 0.3 + 0.02 * np.sin(rows / 3) * np.sin(columns / 4))  # a floor that ripples
    plain = extract(anomaly_map, (192, 256), pixel_threshold=0.29, diffuse_fraction=0.99)
    stable = extract(anomaly_map, (192, 256), pixel_threshold=0.29, diffuse_fraction=0.99, binarisation="mebin")
    assert sum(region.area_px for region in plain) > 0.5 * 192 * 256
    assert len(stable) == 1
    assert 0.01 * 192 * 256 < stable[0].area_px < 0.2 * 192 * 256
    x0, y0, x1, y1 = stable[0].box_xyxy
    assert x0 < 4 * 30 < x1
    assert y0 < 4 * 20 < y1


def test_mebin_falls_back_to_the_pixel_threshold_where_nothing_is_stable():
    anomaly_map = np.zeros((10, 12))
    anomaly_map[4, 5] = 1.0  # eroded away at once
    plain, stable = (extract(anomaly_map, (10, 12), binarisation=kind) for kind in ("threshold", "mebin"))
    assert [region.box_xyxy for region in stable] == [region.box_xyxy for region in plain]


def test_regions_come_by_peak_and_are_capped():
    anomaly_map = np.zeros((9, 13))
    for peak, column in ((0.7, 1), (0.9, 5), (0.8, 9)):
        anomaly_map[4, column] = peak
    peaks = [region.peak_score for region in extract(anomaly_map, (9, 13))]
    assert peaks == pytest.approx([0.9, 0.8, 0.7])
    assert [r.box_xyxy for r in extract(anomaly_map, (9, 13), max_regions=2)] == [(5, 4, 6, 5), (9, 4, 10, 5)]


def test_small_components_are_dropped_but_the_highest_peak_stays():
    anomaly_map = np.zeros((12, 20))
    anomaly_map[1, 1] = 2.0  # one pixel, highest peak
    anomaly_map[5:8, 5:9] = 1.0
    anomaly_map[10, 15] = 1.5  # one pixel
    boxes = [region.box_xyxy for region in extract(anomaly_map, (12, 20), min_area_px=4)]
    assert boxes == [(1, 1, 2, 2), (5, 5, 9, 8)]
    assert [r.box_xyxy for r in extract(anomaly_map, (12, 20), min_area_px=100)] == [(1, 1, 2, 2)]


def test_diagonal_neighbours_are_one_component():
    anomaly_map = np.zeros((6, 9))
    anomaly_map[2, 3] = anomaly_map[3, 4] = 1.0
    (region,) = extract(anomaly_map, (6, 9))
    assert (region.box_xyxy, region.area_px) == ((3, 2, 5, 4), 2)


def test_near_components_become_one_region_with_a_common_outline():
    anomaly_map = np.zeros((12, 30))
    anomaly_map[4:8, 4:8] = 1.0
    anomaly_map[4:8, 11:15] = 2.0  # nearest pixels 4 apart
    assert len(extract(anomaly_map, (12, 30), merge_distance_px=4)) == 2
    (region,) = extract(anomaly_map, (12, 30), merge_distance_px=5)
    assert region.box_xyxy == (4, 4, 15, 8)
    assert (region.area_px, region.peak_score) == (32, 2.0)
    assert region.contour.min(axis=0).tolist() == [4, 4]
    assert region.contour.max(axis=0).tolist() == [14, 7]


def test_collinear_single_pixels_can_be_merged():
    anomaly_map = np.zeros((7, 15))
    anomaly_map[3, 2] = anomaly_map[3, 6] = 1.0
    (region,) = extract(anomaly_map, (7, 15), merge_distance_px=5)
    assert (region.box_xyxy, region.area_px) == ((2, 3, 7, 4), 2)
    assert len(region.contour) >= 1


def test_gt_mask_gives_oracle_regions_with_the_map_s_peaks():
    gt_mask = np.zeros((40, 60), dtype=bool)
    gt_mask[2:6, 3:9] = True
    gt_mask[30:32, 50:55] = True
    anomaly_map = np.zeros((4, 6), dtype=np.float32)
    anomaly_map[3, 5] = 3.0
    regions = regions_from_gt_mask(
        "set/bolt/x", gt_mask, anomaly_map=anomaly_map, min_area_px=1, merge_distance_px=0, max_regions=5
    )
    assert [region.box_xyxy for region in regions] == [(50, 30, 55, 32), (3, 2, 9, 6)]
    assert {region.source for region in regions} == {"oracle"}
    assert regions[0].peak_score > 0
    assert regions[1].peak_score == 0


def test_without_a_map_the_largest_oracle_region_comes_first():
    gt_mask = np.zeros((40, 60), dtype=bool)
    gt_mask[30:32, 50:55] = True
    gt_mask[2:6, 3:9] = True
    regions = regions_from_gt_mask(
        "set/bolt/x", gt_mask, anomaly_map=None, min_area_px=20, merge_distance_px=0, max_regions=5
    )
    assert [(region.box_xyxy, region.peak_score) for region in regions] == [((3, 2, 9, 6), 0.0)]


def test_empty_gt_mask_is_refused():
    with pytest.raises(DataError, match=r"set/bolt/x.*empty"):
        regions_from_gt_mask(
            "set/bolt/x",
            np.zeros((4, 6), dtype=bool),
            anomaly_map=None,
            min_area_px=1,
            merge_distance_px=0,
            max_regions=5,
        )
