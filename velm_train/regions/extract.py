"""One detection or ground-truth mask goes in; the regions worth a closer look come out.

anomaly_map (h, w) -> bilinear to (H, W) -> > threshold -> components -> drop small -> merge near -> sort, cap
"""

import logging
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from skimage.morphology import convex_hull_image

from velm_train.core.errors import DataError
from velm_train.core.records import Detection, Region, RegionSource, SizeHW
from velm_train.core.shapes import AnomalyMap
from velm_train.regions.contours import outline
from velm_train.regions.mebin import stable_threshold
from velm_train.regions.merge import Component, merge_near
from velm_train.regions.resample import upsample_map

logger = logging.getLogger(__name__)

Binarisation = Literal["threshold", "mebin"]
"""How a map becomes a mask: by the category's pixel threshold, or by the image's own most stable one."""

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def whole_image_region(image_id: str, size_hw: SizeHW, *, peak_score: float) -> Region:
    """Returns the region that stands for an anomaly without a place: the whole image, without contour.

    Args:
        image_id: the image.
        size_hw: of the image, pixels.
        peak_score: highest anomaly_map value, raw units.
    """
    height, width = size_hw
    return Region(
        image_id=image_id,
        box_xyxy=(0, 0, width, height),
        contour=np.zeros((0, 2), dtype=np.int32),
        area_px=height * width,
        peak_score=peak_score,
        source="whole_image",
    )


def regions_from_map(
    detection: Detection,
    *,
    binarisation: Binarisation,
    pixel_threshold: float,
    min_area_px: int,
    merge_distance_px: int,
    max_regions: int,
    diffuse_fraction: float,
) -> list[Region]:
    """Returns where the anomaly map exceeds the threshold, highest peak first.

    Args:
        detection: its map covers the whole image.
        binarisation: "threshold" takes the pixel threshold; "mebin" the most stable threshold between it and the
            map's maximum, or the pixel threshold where none is stable.
        pixel_threshold: raw units; a pixel belongs to a region iff its value is above (strictly).
        min_area_px: smaller components are dropped, except the one with the highest peak.
        merge_distance_px: components with a gap below this become one region; 0 merges none.
        max_regions: at most this many are returned, at least 1.
        diffuse_fraction: if the regions cover more than this share of the image, in (0, 1], the anomaly has no place.

    Returns:
        At least one region; exactly one of source "whole_image" if nothing is above the threshold or the anomaly is
        diffuse.
    """
    values = upsample_map(detection.anomaly_map, detection.image_size_hw)
    threshold = pixel_threshold
    if binarisation == "mebin":
        stable = stable_threshold(
            detection.anomaly_map,
            image_size_hw=detection.image_size_hw,
            low=pixel_threshold,
            high=float(detection.anomaly_map.max()),
        )
        threshold = pixel_threshold if stable is None else stable
    regions = _regions(
        detection.image_id,
        values,
        values > threshold,
        source="detector",
        min_area_px=min_area_px,
        merge_distance_px=merge_distance_px,
    )
    num_pixels = detection.image_size_hw[0] * detection.image_size_hw[1]
    covered = sum(region.area_px for region in regions) / num_pixels
    if not regions or covered > diffuse_fraction:
        peak = float(detection.anomaly_map.max())
        return [whole_image_region(detection.image_id, detection.image_size_hw, peak_score=peak)]
    return _capped(regions, max_regions)


def regions_from_gt_mask(
    image_id: str,
    gt_mask: Bool[np.ndarray, "H W"],
    *,
    anomaly_map: AnomalyMap | None,
    min_area_px: int,
    merge_distance_px: int,
    max_regions: int,
) -> list[Region]:
    """Returns the outlined defects of an image as regions of source "oracle", highest peak first, then largest.

    Args:
        image_id: the image.
        gt_mask: ground truth at the image's size.
        anomaly_map: gives the peak scores; without one they are 0 and the largest region comes first.
        min_area_px: smaller components are dropped, except the one that comes first.
        merge_distance_px: components with a gap below this become one region; 0 merges none.
        max_regions: at most this many are returned, at least 1.

    Raises:
        DataError: if the mask is empty: there is nothing an oracle could show.
    """
    if not gt_mask.any():
        raise DataError(f"{image_id}: its ground-truth mask is empty; mend the mask, or list the image without one")
    height, width = gt_mask.shape
    values = (
        np.zeros((height, width), dtype=np.float32)
        if anomaly_map is None
        else upsample_map(anomaly_map, (height, width))
    )
    regions = _regions(
        image_id,
        values,
        gt_mask,
        source="oracle",
        min_area_px=min_area_px,
        merge_distance_px=merge_distance_px,
    )
    return _capped(regions, max_regions)


def _regions(
    image_id: str,
    values: Float[np.ndarray, "H W"],
    mask_px: Bool[np.ndarray, "H W"],
    *,
    source: RegionSource,
    min_area_px: int,
    merge_distance_px: int,
) -> list[Region]:
    labels, num_components = ndimage.label(mask_px, structure=_EIGHT_NEIGHBOURS)
    if num_components == 0:
        return []
    components = _components(labels, values)
    kept = [component for component in components[1:] if component.area_px >= min_area_px]
    kept.insert(0, components[0])
    num_dropped = len(components) - len(kept)
    if num_dropped > 0:
        logger.debug("%s: dropped %d components below %d px", image_id, num_dropped, min_area_px)
    groups = merge_near(kept, labels, merge_distance_px=merge_distance_px)
    regions = [_region(image_id, group, labels, source=source) for group in groups]
    return sorted(regions, key=lambda region: (-region.peak_score, -region.area_px, region.box_xyxy))


def _components(labels: np.ndarray, values: Float[np.ndarray, "H W"]) -> list[Component]:
    """Returns the labelled components, highest peak first, then largest."""
    areas = np.bincount(labels.ravel())
    boxes = ndimage.find_objects(labels)
    peaks = ndimage.maximum(values, labels, index=np.arange(1, len(boxes) + 1))
    components = [
        Component(
            label=index + 1,
            box_xyxy=(columns.start, rows.start, columns.stop, rows.stop),
            area_px=int(areas[index + 1]),
            peak_score=float(peaks[index]),
        )
        for index, (rows, columns) in enumerate(boxes)
    ]
    return sorted(components, key=lambda component: (-component.peak_score, -component.area_px, component.label))


def _region(image_id: str, group: list[Component], labels: np.ndarray, *, source: RegionSource) -> Region:
    """Makes one region of the components of a group; the outline of several is that of their convex hull."""
    x0 = min(component.box_xyxy[0] for component in group)
    y0 = min(component.box_xyxy[1] for component in group)
    x1 = max(component.box_xyxy[2] for component in group)
    y1 = max(component.box_xyxy[3] for component in group)
    pred_mask = np.isin(labels[y0:y1, x0:x1], [component.label for component in group])
    if len(group) > 1:
        pred_mask = convex_hull_image(pred_mask)
    return Region(
        image_id=image_id,
        box_xyxy=(x0, y0, x1, y1),
        contour=outline(pred_mask, offset_xy=(x0, y0)),
        area_px=sum(component.area_px for component in group),
        peak_score=max(component.peak_score for component in group),
        source=source,
    )


def _capped(regions: list[Region], max_regions: int) -> list[Region]:
    if len(regions) > max_regions:
        logger.debug("%s: %d of %d regions kept (max_regions)", regions[0].image_id, max_regions, len(regions))
    return regions[:max_regions]
