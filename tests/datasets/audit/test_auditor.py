"""Facts about the whole audit: nothing on clean data, every planted fault found by itself."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from velm_train.core.audit import AuditReport
from velm_train.core.errors import ConfigError, DataError
from velm_train.datasets.audit.auditor import allow_findings, folder_roles, loosen


def test_nothing_is_found_where_nothing_is_wrong(shelf, found) -> None:
    report = shelf.audit()
    assert found(report) == []
    assert (report.num_images, report.num_other, report.roles_from) == (32, 0, "protocol")


def test_a_copy_on_the_other_side_is_a_leak(shelf, found, make_part) -> None:
    shelf.add("bolt/test/good/x.png", make_part("bolt", 3), role="test")
    assert found(shelf.audit()) == [("leak", "dup", ("d/bolt/test/good/x.png", "d/bolt/train/good/3.png"))]


def test_validation_counts_as_tested_and_reference_as_known(shelf, found, make_part) -> None:
    shelf.add("bolt/test/good/x.png", make_part("bolt", 0), role="validation")
    (finding,) = shelf.audit().findings
    assert (finding.severity, finding.kind) == ("leak", "dup")
    assert [image.role for image in finding.images] == ["validation", "reference"]


def test_a_copy_without_a_role_is_a_note(shelf, found, make_part) -> None:
    shelf.add("bolt/test/good/x.png", make_part("bolt", 3), role=None)
    assert [(severity, kind) for severity, kind, _ in found(shelf.audit())] == [("note", "dup")]


def test_the_id_of_a_finding_does_not_depend_on_roles(shelf, make_part) -> None:
    copy = shelf.add("bolt/test/good/x.png", make_part("bolt", 3), role="test")
    (leak,) = shelf.audit(near_duplicates=False).findings
    del shelf.roles[copy.image_id]
    (note,) = shelf.audit(near_duplicates=False).findings
    assert leak.finding_id == note.finding_id


def test_copies_are_found_across_data_sets(shelf, found, make_part) -> None:
    shelf.add("screw/test/good/9.png", make_part("cap", 2), role="test", dataset="other")
    assert found(shelf.audit(near_duplicates=False)) == [
        ("leak", "dup", ("d/cap/train/good/2.png", "other/screw/test/good/9.png")),
        ("label", "two", ("d/cap/train/good/2.png", "other/screw/test/good/9.png")),
    ]


def test_a_reencoded_copy_is_a_leak_and_found_only_if_asked_for(shelf, found, make_part) -> None:
    shelf.add("bolt/test/good/x.jpg", make_part("bolt", 3), role="test", quality=50)
    assert found(shelf.audit()) == [("leak", "near", ("d/bolt/test/good/x.jpg", "d/bolt/train/good/3.png"))]
    assert found(shelf.audit(near_duplicates=False)) == []


def test_a_reencoded_copy_on_one_side_is_a_note(shelf, found, make_part) -> None:
    shelf.add("bolt/train/good/x.jpg", make_part("bolt", 3), role="train", quality=50)
    assert found(shelf.audit()) == [("note", "near", ("d/bolt/train/good/3.png", "d/bolt/train/good/x.jpg"))]


def test_all_files_of_one_picture_are_one_finding(shelf, found, make_part) -> None:
    image = make_part("bolt", 3)
    shelf.add("bolt/test/good/x.jpg", image, role="test", quality=50)
    bigger = Image.fromarray(image).resize((160, 118))
    shelf.add("bolt/train/good/y.png", np.asarray(bigger), role="train")
    near = [one for one in shelf.audit().findings if one.kind == "near"]
    assert [len(one.images) for one in near] == [3]


def test_several_shots_of_one_part_are_not_called_copies(shelf, found, make_part) -> None:
    shelf.add("bolt/train/good/y.png", make_part("bolt", 60), role="train", group="part 7")
    shelf.add("bolt/train/good/z.jpg", make_part("bolt", 60), role="train", group="part 7", quality=60)
    assert found(shelf.audit()) == []


def test_one_part_on_both_sides_is_a_leak(shelf, found, make_part) -> None:
    shelf.add("bolt/train/good/y.png", make_part("bolt", 60), role="train", group="part 7")
    shelf.add("bolt/test/good/y.png", make_part("bolt", 61), role="test", group="part 7")
    assert found(shelf.audit()) == [("leak", "group", ("d/bolt/test/good/y.png", "d/bolt/train/good/y.png"))]


@pytest.mark.parametrize("role", ["reference", "calibration", "train"])
def test_normals_of_the_test_folder_may_not_be_known(shelf, found, make_part, role) -> None:
    shelf.add("bolt/test/good/y.png", make_part("bolt", 60), role=role)
    assert found(shelf.audit()) == [("leak", "folder", ("d/bolt/test/good/y.png",))]


def test_two_labels_of_one_content_are_a_label_problem(shelf, found, make_part) -> None:
    image = make_part("bolt", 60)
    for name in ("bolt/test/dent/1.png", "bolt/test/cut/1x.png"):
        shelf.add(name, image, role="test")
    assert found(shelf.audit()) == [
        ("label", "two", ("d/bolt/test/cut/1x.png", "d/bolt/test/dent/1.png")),
        ("note", "dup", ("d/bolt/test/cut/1x.png", "d/bolt/test/dent/1.png")),
    ]


def test_a_truncated_file_is_named(shelf, found, make_part) -> None:
    record = shelf.add("bolt/test/good/y.jpg", make_part("bolt", 60), role="test", quality=90)
    record.image_path.write_bytes(record.image_path.read_bytes()[:1500])
    (finding,) = shelf.audit().findings
    assert (finding.severity, finding.kind) == ("label", "bad")
    assert str(record.image_path) in finding.text
    assert "cannot be read" in finding.text


def test_images_of_another_category_are_found_without_knowing_the_data_set(shelf, found, make_part) -> None:
    for i in range(2):
        shelf.add(f"bolt/train/good/foreign_{i}.png", make_part("cap", 70 + i), role="train")
    assert found(shelf.audit()) == [
        ("label", "misfit", ("d/bolt/train/good/foreign_0.png", "d/bolt/train/good/foreign_1.png"))
    ]


def test_a_known_fault_is_noted_by_name(shelf, found, make_part) -> None:
    shelf.add("pill/test/good/9.png", make_part("pill", 2), role="test", dataset="ds_mvtec")
    (finding,) = shelf.audit(near_duplicates=False).findings
    assert (finding.severity, finding.kind) == ("note", "known")
    assert "22 images of pill/good are metal nuts" in finding.text


def test_extra_folders_are_searched_for_what_is_tested(shelf, make_part, tmp_path: Path) -> None:
    extra = tmp_path / "crawl"
    (extra / "deep").mkdir(parents=True)
    Image.fromarray(make_part("bolt", 21)).save(extra / "deep" / "a.jpg", quality=60)  # of a test image
    Image.fromarray(make_part("bolt", 2)).save(extra / "b.jpg", quality=60)  # of a training image
    Image.fromarray(make_part("cap", 22)).save(extra / "c.png")  # a test image itself
    report = shelf.audit(extra_folders=(extra,))
    images = {one.kind: tuple(image.image_id for image in one.images) for one in report.findings}
    assert images == {
        "near": ("crawl/deep/a.jpg", "d/bolt/test/good/1.png"),
        "dup": ("crawl/c.png", "d/cap/test/good/2.png"),
    }
    assert {one.severity for one in report.findings} == {"leak"}
    assert report.num_other == 3


@pytest.mark.parametrize(("make", "problem"), [(True, "holds no images"), (False, "is not a folder")])
def test_an_extra_folder_without_images_is_refused(shelf, tmp_path: Path, make: bool, problem: str) -> None:
    if make:
        (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=problem):
        shelf.audit(extra_folders=(tmp_path / "empty",))


@pytest.fixture
def leaky(shelf, make_part) -> AuditReport:
    shelf.add("bolt/test/good/x.png", make_part("bolt", 3), role="test")
    return shelf.audit(near_duplicates=False)


def test_allowing_takes_the_known_ids_only(shelf, leaky) -> None:
    (finding,) = leaky.findings
    allowed = allow_findings(leaky, [finding.finding_id], records=shelf.records)
    assert (allowed.leaks_not_allowed, allowed.allowed) == ((), (finding,))
    wrong = finding.finding_id[:-1] + ("0" if finding.finding_id[-1] != "0" else "1")
    with pytest.raises(ConfigError, match=f"did you mean '{finding.finding_id}'"):
        allow_findings(leaky, [wrong], records=shelf.records)


def test_loosened_copies_share_nothing_and_all_others_stay(shelf, leaky) -> None:
    (finding,) = leaky.findings
    loosened = loosen(shelf.records, [finding.finding_id])
    pair = {image.image_id for image in finding.images}
    shas = [record.sha256 for record in loosened if record.image_id in pair]
    assert len(set(shas)) == 2
    assert [r for r in loosened if r.image_id not in pair] == [r for r in shelf.records if r.image_id not in pair]


def test_folders_give_roles_where_no_protocol_does(shelf) -> None:
    roles = folder_roles(shelf.records)
    assert set(roles) == {record.image_id for record in shelf.records}
    assert roles["d/bolt/train/good/1.png"] == "train"
    assert roles["d/bolt/test/cut/0.png"] == "test"
