"""Views cut what they say from the image they say."""

import numpy as np
import pytest

from velm_train.core.errors import DataError
from velm_train.instructions.finding import ImpossibleSampleError
from velm_train.instructions.views import NO_CONTOUR, make_view, same_place, views_of


def test_a_view_without_a_box_is_the_whole_image(make_finding):
    view = make_view("query", make_finding().record, box_xyxy=None, contour=NO_CONTOUR)
    assert view.box_xyxy == (0, 0, 120, 90)


@pytest.mark.parametrize("box_xyxy", [(0, 0, 121, 90), (-1, 0, 5, 5), (5, 5, 5, 9), (0, 80, 10, 91)])
def test_a_box_beyond_the_image_is_refused(make_finding, box_xyxy):
    with pytest.raises(DataError, match="does not lie within the image of 120x90"):
        make_view("crop", make_finding().record, box_xyxy=box_xyxy, contour=NO_CONTOUR)


def test_views_come_in_the_order_asked_for(make_finding):
    finding = make_finding()
    views = views_of(finding, ("crop", "reference", "query_contour", "query"))
    assert [view.kind for view in views] == ["crop", "reference", "query_contour", "query"]
    assert [view.box_xyxy for view in views] == [(70, 0, 110, 40), (0, 0, 60, 45), (0, 0, 120, 90), (0, 0, 120, 90)]
    assert [view.image_id for view in views] == [
        finding.record.image_id,
        "textures/brick/train/good/007.png",
        finding.record.image_id,
        finding.record.image_id,
    ]


def test_only_the_contour_view_carries_the_contour(make_finding):
    finding = make_finding()
    crop, query, marked = views_of(finding, ("crop", "query", "query_contour"))
    assert crop.contour.shape == query.contour.shape == (0, 2)
    assert np.array_equal(marked.contour, finding.region.contour)


def test_a_reference_beside_a_crop_is_cut_at_the_same_relative_place(make_finding):
    reference, _ = views_of(make_finding(), ("reference", "crop"))
    assert reference.box_xyxy == (35, 0, 55, 20)  # the reference is half as wide and half as high


@pytest.mark.parametrize(
    ("box_xyxy", "to_hw", "expected"),
    [
        ((70, 0, 110, 40), (90, 120), (70, 0, 110, 40)),
        ((1, 1, 2, 2), (9, 12), (0, 0, 1, 1)),
        ((119, 89, 120, 90), (9, 12), (11, 8, 12, 9)),
        ((119, 89, 120, 90), (180, 360), (357, 178, 360, 180)),
    ],
)
def test_same_place_is_never_empty_and_never_outside(box_xyxy, to_hw, expected):
    assert same_place(box_xyxy, from_hw=(90, 120), to_hw=to_hw) == expected


@pytest.mark.parametrize(
    ("kinds", "missing"), [(("reference", "query"), "reference"), (("crop",), "region"), (("query_contour",), "region")]
)
def test_a_view_that_cannot_be_made_says_what_is_missing(make_finding, kinds, missing):
    with pytest.raises(ImpossibleSampleError, match=f"needs a {missing}"):
        views_of(make_finding(with_region=False, with_reference=False), kinds)
