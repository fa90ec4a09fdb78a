"""Recipes of what the model is shown: a record and a place in, views out; no pixel is read here."""

from collections.abc import Sequence

import numpy as np

from velm_train.core.errors import DataError
from velm_train.core.records import BoxXYXY, ImageRecord, SizeHW, View, ViewKind
from velm_train.core.shapes import ContourPoints
from velm_train.instructions.finding import Finding, ImpossibleSampleError

NO_CONTOUR: ContourPoints = np.zeros((0, 2), dtype=np.int32)
NO_CONTOUR.flags.writeable = False

WHOLE_QUERY_KINDS: tuple[ViewKind, ...] = ("query", "query_contour")
"""The kinds that show all of the image under inspection."""


def make_view(kind: ViewKind, record: ImageRecord, *, box_xyxy: BoxXYXY | None, contour: ContourPoints) -> View:
    """Returns the recipe of one view.

    Args:
        kind: what the view is for.
        record: the image the pixels come from.
        box_xyxy: the part to cut out, original pixels, half-open; None for the whole image.
        contour: points (x, y) to draw, original pixels; empty (0, 2) for none.

    Raises:
        DataError: if the box is empty or reaches beyond the image.
    """
    height, width = record.size_hw
    x0, y0, x1, y1 = box_xyxy if box_xyxy is not None else (0, 0, width, height)
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise DataError(
            f"{record.image_id}: {kind} box {box_xyxy} does not lie within the image of {width}x{height} pixels"
        )
    return View(
        kind=kind,
        image_id=record.image_id,
        image_path=record.image_path,
        sha256=record.sha256,
        box_xyxy=(x0, y0, x1, y1),
        contour=contour,
    )


def same_place(box_xyxy: BoxXYXY, *, from_hw: SizeHW, to_hw: SizeHW) -> BoxXYXY:
    """Returns the box at the same relative place of an image of another size, at least one pixel wide and high."""
    x0, x1 = _scaled(box_xyxy[0], box_xyxy[2], from_hw[1], to_hw[1])
    y0, y1 = _scaled(box_xyxy[1], box_xyxy[3], from_hw[0], to_hw[0])
    return x0, y0, x1, y1


def _scaled(start: int, stop: int, from_length: int, to_length: int) -> tuple[int, int]:
    new_start = min(start * to_length // from_length, to_length - 1)
    new_stop = -(-stop * to_length // from_length)
    return new_start, max(new_start + 1, new_stop)


def views_of(finding: Finding, kinds: Sequence[ViewKind]) -> tuple[View, ...]:
    """Returns a finding's views in the order of `kinds`.

    The reference is shown at the scale of what it stands beside: whole next to a whole query, else cut out
    at the crop's relative place.

    Raises:
        ImpossibleSampleError: if a kind needs a reference or a region that the finding does not have.
    """
    shows_whole_query = any(kind in WHOLE_QUERY_KINDS for kind in kinds)
    return tuple(_view_of(finding, kind, whole_reference=shows_whole_query) for kind in kinds)


def _view_of(finding: Finding, kind: ViewKind, *, whole_reference: bool) -> View:
    record = finding.record
    if kind == "query":
        return make_view(kind, record, box_xyxy=None, contour=NO_CONTOUR)
    if kind == "query_contour":
        if finding.region is None:
            raise ImpossibleSampleError("the query_contour view needs a region and there is none")
        return make_view(kind, record, box_xyxy=None, contour=finding.region.contour)
    if kind == "reference" and finding.reference is None:
        raise ImpossibleSampleError("the reference view needs a reference image and there is none")
    if finding.crop_box_xyxy is None and (kind == "crop" or not whole_reference):
        raise ImpossibleSampleError(f"the {kind} view needs a region and there is none")
    if kind == "crop":
        return make_view(kind, record, box_xyxy=finding.crop_box_xyxy, contour=NO_CONTOUR)
    assert finding.reference is not None
    box_xyxy = None
    if not whole_reference:
        assert finding.crop_box_xyxy is not None
        box_xyxy = same_place(finding.crop_box_xyxy, from_hw=record.size_hw, to_hw=finding.reference.size_hw)
    return make_view(kind, finding.reference, box_xyxy=box_xyxy, contour=NO_CONTOUR)
