"""Rows on disk come back equal; what was made before is remembered, and a torn line costs one row."""

import dataclasses
import json
from pathlib import Path

import pytest

from velm_train.core.errors import ArtifactError, ResourceError
from velm_train.core.inspection import Inspection, NamedOption
from velm_train.reporting.inspections import InspectionMemory, read_inspections, write_inspections


@pytest.fixture
def row(cut_row: Inspection) -> Inspection:
    beside = NamedOption(answer="none of these", defect_type=None, log_likelihood=-2.0, probability=0.25, in_set=None)
    return dataclasses.replace(cut_row, path="new/ä 1.png", options=(*cut_row.options, beside))


@pytest.fixture
def other(row: Inspection) -> Inspection:
    return dataclasses.replace(row, path="b.png", sha256="b" * 64)


def test_rows_come_back_equal(tmp_path: Path, row: Inspection, other: Inspection) -> None:
    write_inspections([row, other], tmp_path / "rows.jsonl")
    assert read_inspections(tmp_path / "rows.jsonl") == [row, other]
    header = json.loads((tmp_path / "rows.jsonl").read_text().splitlines()[0])
    assert header == {"kind": "velm_train inspections", "schema_version": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"rows\.jsonl cannot be read"),
        ('{"kind": "velm_train inspections", "schema_version": 2}\n', r"first line .* expected"),
        ('{"kind": "velm_train inspections", "schema_version": 1}\n{"path": "a.png"}\n', r"line 2 cannot be read"),
        ('{"kind": "velm_train inspections", "schema_version": 1}\n{"path"', r"the last line is cut short"),
    ],
)
def test_file_that_is_not_whole_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "rows.jsonl").write_text(content)
    with pytest.raises(ArtifactError, match=message):
        read_inspections(tmp_path / "rows.jsonl")


def test_memory_knows_rows_by_content_and_category(tmp_path: Path, row: Inspection, other: Inspection) -> None:
    with InspectionMemory(tmp_path / "memory") as memory:
        assert memory.known() == {}
        memory.keep([row])
        memory.keep([other])
    with InspectionMemory(tmp_path / "memory") as later:
        assert later.known() == {("a" * 64, "cable"): row, ("b" * 64, "cable"): other}
        later.keep([dataclasses.replace(row, category="wood")])
    assert len(list((tmp_path / "memory").iterdir())) == 2
    assert set(InspectionMemory(tmp_path / "memory").known()) == {
        ("a" * 64, "cable"),
        ("b" * 64, "cable"),
        ("a" * 64, "wood"),
    }


def test_unreadable_pictures_are_not_remembered(tmp_path: Path, row: Inspection) -> None:
    with InspectionMemory(tmp_path / "memory") as memory:
        memory.keep([dataclasses.replace(row, verdict="unreadable")])
    assert not (tmp_path / "memory").exists()


def test_row_that_was_cut_short_is_left_out(tmp_path: Path, row: Inspection, other: Inspection) -> None:
    with InspectionMemory(tmp_path) as memory:
        memory.keep([row, other])
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-20])
    assert set(InspectionMemory(tmp_path).known()) == {("a" * 64, "cable")}
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"cable", b"c\xffble", 1))
    with pytest.raises(ArtifactError, match=r"is damaged .* remove the file"):
        InspectionMemory(tmp_path).known()
    path.write_bytes(whole.replace(b'"path"', b'"other"', 1))
    with pytest.raises(ArtifactError, match=r"line 2 cannot be read .* remove the file"):
        InspectionMemory(tmp_path).known()


def test_folder_that_cannot_be_made_is_an_error_of_the_machine(tmp_path: Path, row: Inspection) -> None:
    (tmp_path / "file").write_text("")
    with InspectionMemory(tmp_path / "file" / "memory") as memory, pytest.raises(ResourceError, match="cannot write"):
        memory.keep([row])
