"""Which rates the normal images of a data set allow, before anything is computed."""

import dataclasses

import pytest

from velm_train.core.errors import GateError
from velm_train.pipeline.reach import calibrating, is_fitted, require_reach


def of(parts, category: str) -> list:
    return [record for record in parts.records if record.category == category]


def test_normals_of_role_train_are_fitted_and_calibrate(parts) -> None:
    fitted = [record for record in of(parts, "felt") if is_fitted(record, parts.roles)]
    assert len(fitted) == 4
    assert {record.defect_type for record in fitted} == {"good"}
    assert calibrating(of(parts, "felt"), parts.roles) == fitted


def test_images_held_out_calibrate_alone(parts) -> None:
    fitted = calibrating(of(parts, "felt"), parts.roles)
    roles = {**parts.roles, fitted[1].image_id: "calibration"}
    assert calibrating(of(parts, "felt"), roles) == [fitted[1]]
    assert not is_fitted(fitted[1], roles)


def test_alpha_below_what_the_normals_allow_is_refused_with_numbers_and_floors(parts) -> None:
    with pytest.raises(
        GateError, match=r"felt \(4 normal parts, floor 0\.2\), steel .*and 9 normal parts are"
    ) as caught:
        require_reach(parts.records, parts.roles, alpha=0.1)
    assert "\n" not in str(caught.value)
    assert "calibration_fraction" not in str(caught.value)


def test_the_floor_itself_is_allowed(parts) -> None:
    require_reach(parts.records, parts.roles, alpha=0.2)


def test_only_the_category_that_is_too_small_is_named(parts) -> None:
    lost = calibrating(of(parts, "steel"), parts.roles)[0]
    with pytest.raises(GateError) as caught:
        require_reach([record for record in parts.records if record != lost], parts.roles, alpha=0.2)
    assert "steel (3 normal parts, floor 0.25)" in str(caught.value)
    assert "felt" not in str(caught.value)


def test_views_of_one_part_count_once(parts) -> None:
    first, second, *_ = calibrating(of(parts, "felt"), parts.roles)
    records = [dataclasses.replace(one, group_id="pair") if one in (first, second) else one for one in parts.records]
    with pytest.raises(GateError, match=r"felt \(3 normal parts"):
        require_reach(records, parts.roles, alpha=0.2)


def test_held_out_images_that_are_too_few_come_with_the_way_out(parts) -> None:
    roles = {**parts.roles, calibrating(of(parts, "felt"), parts.roles)[0].image_id: "calibration"}
    with pytest.raises(GateError, match=r"felt \(1 normal parts.*protocol\.calibration_fraction=0"):
        require_reach(parts.records, roles, alpha=0.2)


def test_a_category_without_normals_is_left_to_the_detector(parts) -> None:
    felt = calibrating(of(parts, "felt"), parts.roles)
    require_reach([record for record in parts.records if record not in felt], parts.roles, alpha=0.2)
