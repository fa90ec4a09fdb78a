"""A finding refuses what would leak or confuse."""

import dataclasses

import pytest

from velm_train.core.errors import DataError


@pytest.mark.parametrize(("field", "value"), [("split", "test"), ("defect_type", "crack")])
def test_references_come_from_train_good_only(make_finding, field, value):
    finding = make_finding()
    reference = dataclasses.replace(finding.reference, **{field: value})
    with pytest.raises(DataError, match="train/good only"):
        dataclasses.replace(finding, reference=reference)


def test_an_image_is_not_its_own_reference(make_finding):
    finding = make_finding()
    reference = dataclasses.replace(finding.reference, sha256=finding.record.sha256)
    with pytest.raises(DataError, match="same picture"):
        dataclasses.replace(finding, reference=reference)


def test_a_region_of_another_image_is_refused(make_finding):
    finding = make_finding()
    region = dataclasses.replace(finding.region, image_id="other")
    with pytest.raises(DataError, match="belongs to other"):
        dataclasses.replace(finding, region=region)
