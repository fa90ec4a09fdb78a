"""Facts about audit.json."""

import json
from pathlib import Path

import pytest

from velm_train.core.audit import AuditReport
from velm_train.core.errors import ArtifactError
from velm_train.reporting.audit_file import read_audit, write_audit

REPORT = AuditReport(
    findings=(), allow=("dup-3fa91c",), num_images=4, num_other=1, searched_near_duplicates=False, roles_from="folders"
)


def test_a_report_comes_back_as_it_was(tmp_path: Path) -> None:
    write_audit(REPORT, tmp_path / "audit.json")
    assert read_audit(tmp_path / "audit.json") == REPORT


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"schema_version": 9}, "schema version 9"),
        ({"findings": None, "more": 1}, "unknown fields"),
        (None, "cannot be read"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, change, problem: str) -> None:
    path = tmp_path / "audit.json"
    write_audit(REPORT, path)
    path.write_text("{" if change is None else json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ArtifactError, match=problem):
        read_audit(path)
