"""Images, anomaly maps and outlines go in; small pictures for people come out, as arrays or as data URIs."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from scipy import ndimage

from velm_train.core.images import cut_out
from velm_train.core.records import BoxXYXY
from velm_train.core.shapes import AnomalyMap, BoolMap, ContourPoints, RGBImage

CONTOUR_RGB = (230, 30, 30)
HALO_RGB = (255, 255, 255)
MAX_OPACITY = 0.75
JPEG_QUALITY = 84
GAP_PX, LINE_PX = 1, 2
"""Free space around a mask, and width of the line around that, in pixels of a thumbnail."""

_RAMP_RGB = np.array(
    [(38, 12, 74), (120, 28, 109), (197, 58, 83), (240, 115, 46), (252, 188, 60), (252, 246, 170)], dtype=np.float64
)
"""Colours from low to high; lightness rises throughout, so the order survives in grey."""


SmallRGB = UInt8[np.ndarray, "small_h small_w 3"]
"""A reduced picture; its size is not its source's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A small picture with what it shows in words.

    Attributes:
        alt: full description for people who cannot see it.
        caption: one or two words under it.
    """

    rgb: RGBImage
    alt: str
    caption: str


def colour_map(values: Float[np.ndarray, "h w"]) -> RGBImage:
    """Returns colours for values in 0..1 (clipped), from dark violet to pale yellow."""
    position = np.clip(values, 0.0, 1.0) * (len(_RAMP_RGB) - 1)
    steps = np.arange(len(_RAMP_RGB))
    channels = [np.interp(position, steps, _RAMP_RGB[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def heatmap_overlay(image: RGBImage, anomaly_map: AnomalyMap, *, low: float, high: float) -> RGBImage:
    """Lays the anomaly map over its image; what is at or below `low` stays clear.

    Args:
        image: picture that the map covers.
        anomaly_map: raw detector units, any resolution.
        low: value that starts to be coloured, raw units, such as half the pixel threshold.
        high: value of the strongest colour, above `low`.
    """
    assert high > low, (low, high)
    size_wh = (image.shape[1], image.shape[0])
    resized = Image.fromarray(anomaly_map.astype(np.float32)).resize(size_wh, Image.Resampling.BILINEAR)
    share = np.clip((np.asarray(resized, dtype=np.float64) - low) / (high - low), 0.0, 1.0)
    opacity = (MAX_OPACITY * np.sqrt(share))[..., None]
    mixed = image * (1 - opacity) + colour_map(share) * opacity
    return mixed.round().astype(np.uint8)


def draw_contours(image: RGBImage, contours: Sequence[ContourPoints], *, width_px: int = 2) -> RGBImage:
    """Draws closed outlines in red with a white halo, visible on any part."""
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    outlines = [[(int(x), int(y)) for x, y in contour] for contour in contours if len(contour) > 1]
    for colour, width in ((HALO_RGB, width_px + 2), (CONTOUR_RGB, width_px)):
        for points in outlines:
            pen.line([*points, points[0]], fill=colour, width=width, joint="curve")
    return np.asarray(canvas)


def draw_boxes(image: RGBImage, boxes_xyxy: Sequence[BoxXYXY], *, width_px: int = 2) -> RGBImage:
    """Draws half-open boxes in red with a white halo."""
    corners = [
        np.array([(x0, y0), (x1 - 1, y0), (x1 - 1, y1 - 1), (x0, y1 - 1)], dtype=np.int64)
        for x0, y0, x1, y1 in boxes_xyxy
    ]
    return draw_contours(image, corners, width_px=width_px)


def thumbnail(image: RGBImage, *, max_side_px: int) -> SmallRGB:
    """Returns the picture with its longer side at most `max_side_px`; never enlarged."""
    scale = _scale_to_fit(image, max_side_px)
    if scale == 1.0:
        return image
    size_wh = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(Image.fromarray(image).resize(size_wh, Image.Resampling.LANCZOS))


def outlined_thumbnail(image: RGBImage, gt_mask: BoolMap, *, max_side_px: int) -> SmallRGB:
    """Returns the reduced picture with a red line around the mask, which leaves what lies inside to be seen.

    The line keeps GAP_PX away from every pixel that the mask touches, so that even a mask of one pixel gets a ring
    that can be seen, and a crack is not painted over.

    Args:
        image: original pixels.
        gt_mask: of the image's size.
        max_side_px: longer side of the result.
    """
    small = thumbnail(image, max_side_px=max_side_px).copy()
    size_wh = (small.shape[1], small.shape[0])
    touched = np.asarray(Image.fromarray(gt_mask.astype(np.float32)).resize(size_wh, Image.Resampling.BOX)) > 0
    inside = _grown(touched, GAP_PX)
    line = _grown(inside, LINE_PX)
    small[_grown(line, 1) & ~line] = HALO_RGB
    small[line & ~inside] = CONTOUR_RGB
    return small


def _grown(mask: BoolMap, num_px: int) -> BoolMap:
    """Returns where the mask is at most `num_px` away, in any of the eight directions."""
    grown: np.ndarray = ndimage.maximum_filter(mask, size=2 * num_px + 1, mode="constant")
    return grown


def example_pictures(
    image: RGBImage,
    *,
    anomaly_map: AnomalyMap,
    low: float,
    high: float,
    contours: Sequence[ContourPoints],
    crop_box_xyxy: BoxXYXY | None,
    max_side_px: int = 320,
) -> tuple[Picture, ...]:
    """Returns what the report shows of one image: outline, heatmap and crop, no picture twice.

    Without an outline, the plain picture is called "whole image" if the model was shown it as its crop, else "image".
    A map that marks nothing is left out, and so is a crop of the whole image that no outline tells from it.

    Args:
        image: original pixels.
        anomaly_map: raw detector units, covering the whole image.
        low: value that starts to be coloured, raw units.
        high: value of the strongest colour, raw units.
        contours: outlines in original pixels; empty if nothing was found.
        crop_box_xyxy: the crop that the model saw, original pixels.
        max_side_px: longer side of each picture.
    """
    small = thumbnail(image, max_side_px=max_side_px)
    scale = _scale_to_fit(image, max_side_px)
    scaled = [np.asarray((contour * scale).round(), dtype=np.int64) for contour in contours]
    shows_all = crop_box_xyxy == (0, 0, image.shape[1], image.shape[0])
    if contours:
        found = "1 outlined region" if len(contours) == 1 else f"{len(contours)} outlined regions"
        pictures = [Picture(rgb=draw_contours(small, scaled), alt=f"inspected part with {found}", caption="outline")]
    else:
        caption = "whole image" if shows_all else "image"
        pictures = [Picture(rgb=small, alt="inspected part, nothing outlined", caption=caption)]
    overlay = heatmap_overlay(small, anomaly_map, low=low, high=high)
    if not np.array_equal(overlay, small):
        alt = "the same part with the detector's anomaly map laid over it"
        pictures.append(Picture(rgb=overlay, alt=alt, caption="heatmap"))
    if crop_box_xyxy is not None and (contours or not shows_all):
        crop = thumbnail(cut_out(image, crop_box_xyxy), max_side_px=max_side_px)
        pictures.append(Picture(rgb=crop, alt="the crop that the language model saw", caption="crop"))
    return tuple(pictures)


def look_picture(
    image: RGBImage, *, view_box_xyxy: BoxXYXY, cells_xyxy: Sequence[BoxXYXY], max_side_px: int = 320
) -> Picture:
    """Returns the view that the model looked at twice, with the cells of its second look outlined.

    Args:
        image: original pixels.
        view_box_xyxy: the part that the view shows, original pixels.
        cells_xyxy: original pixels, inside the view.
        max_side_px: longer side of the picture.
    """
    view = cut_out(image, view_box_xyxy)
    scale = _scale_to_fit(view, max_side_px)
    left, top = view_box_xyxy[:2]
    boxes = [
        (round((x0 - left) * scale), round((y0 - top) * scale), round((x1 - left) * scale), round((y1 - top) * scale))
        for x0, y0, x1, y1 in dict.fromkeys(cells_xyxy)
    ]
    number = "1 cell" if len(boxes) == 1 else f"{len(boxes)} cells"
    return Picture(
        rgb=draw_boxes(thumbnail(view, max_side_px=max_side_px), boxes, width_px=1),
        alt=f"the view with the {number} outlined that the look-twice tokens draw most from",
        caption="second look",
    )


def jpeg_data_uri(image: RGBImage) -> str:
    """Returns a picture as a JPEG data URI."""
    return _data_uri(image, kind="JPEG")


def png_data_uri(image: RGBImage) -> str:
    """Returns a picture as a PNG data URI, without loss."""
    return _data_uri(image, kind="PNG")


def _data_uri(image: RGBImage, *, kind: str) -> str:
    stream = io.BytesIO()
    if kind == "JPEG":
        Image.fromarray(image).save(stream, format=kind, quality=JPEG_QUALITY)
    else:
        Image.fromarray(image).save(stream, format=kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _scale_to_fit(image: RGBImage, max_side_px: int) -> float:
    longer_side: int = max(image.shape[:2])
    return min(1.0, max_side_px / longer_side)
