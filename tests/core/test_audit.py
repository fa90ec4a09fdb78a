"""Facts about findings and reports."""

import hashlib
import json
import re

import pytest

from velm_train.core.audit import AuditedImage, AuditReport, Finding, finding_id, require_no_leak
from velm_train.core.errors import DataError


def image(image_id: str, role: str) -> AuditedImage:
    return AuditedImage(image_id=image_id, path=f"data/{image_id}", role=role, dataset="d", label="bolt/good")


def finding(number: int, severity: str = "leak") -> Finding:
    images = (image(f"{number}/a", "train"), image(f"{number}/b", "test"))
    return Finding(
        finding_id=f"dup-00000{number}", kind="dup", severity=severity, images=images, text=f"copy {number}; keep one"
    )


def report(*findings: Finding, allow: tuple[str, ...] = ()) -> AuditReport:
    return AuditReport(
        findings=findings,
        allow=allow,
        num_images=9,
        num_other=0,
        searched_near_duplicates=True,
        roles_from="protocol",
    )


def test_an_id_is_the_kind_and_a_hash_of_the_sorted_images() -> None:
    digest = hashlib.sha256(b'["dup","a","b"]').hexdigest()
    assert re.fullmatch(r"dup-[0-9a-f]{6}", finding_id("dup", ["b", "a"]))
    assert finding_id("dup", ["b", "a"]) == finding_id("dup", ["a", "b"]) == "dup-" + digest[:6]
    assert finding_id("near", ["a", "b"])[5:] != finding_id("dup", ["a", "b"])[4:]


def test_leaks_are_divided_into_allowed_and_not() -> None:
    made = report(finding(1), finding(2), finding(3, "label"), allow=("dup-000002", "dup-000003"))
    assert made.leaks_not_allowed == (finding(1),)
    assert made.allowed == (finding(2),)
    assert made.of("label") == (finding(3, "label"),)


def test_no_leak_is_no_reason_to_stop() -> None:
    require_no_leak(report(finding(3, "label"), finding(4, "note")))
    require_no_leak(report(finding(1), allow=("dup-000001",)))


def test_a_leak_stops_with_its_id_and_the_way_out() -> None:
    with pytest.raises(DataError) as caught:
        require_no_leak(report(finding(1), finding(2), allow=("dup-000002",)))
    message = str(caught.value)
    assert "the audit found 1 leak" in message
    assert "dup-000001: copy 1; keep one" in message
    assert "dup-000002: " not in message
    assert message.endswith("audit.allow=[dup-000001,dup-000002]")  # what was allowed stays so
    assert "\n" not in message


def test_many_leaks_are_counted_but_all_can_be_copied() -> None:
    with pytest.raises(DataError) as caught:
        require_no_leak(report(*(finding(number) for number in range(1, 6))))
    assert "; and 2 more" in str(caught.value)
    assert str(caught.value).count("dup-00000") == 3 + 5


def test_json_gives_the_report_back() -> None:
    made = report(finding(1), finding(2, "note"), allow=("dup-000001",))
    assert AuditReport.from_json(json.loads(json.dumps(made.to_json()))) == made
    with pytest.raises(DataError, match="missing fields"):
        AuditReport.from_json({"findings": []})
