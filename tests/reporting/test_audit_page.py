"""Facts about the audit's table and page."""

import re

import numpy as np
import pytest

from velm_train.core.audit import AuditedImage, AuditReport, Finding
from velm_train.reporting.audit_page import (
    MAX_IMAGES_SHOWN,
    AuditPicture,
    audit_rows,
    pictured,
    render_audit_page,
    shown_images,
    summary,
)


def image(name: str, *, role: str = "train", label: str = "bolt/good") -> AuditedImage:
    return AuditedImage(image_id=f"d/{name}", path=f"data/{name}", role=role, dataset="d", label=label)


LEAK = Finding(
    finding_id="near-aaaaaa",
    kind="near",
    severity="leak",
    images=(image("a.png"), image("b.jpg", role="test")),
    text="two files <b>show</b> one picture",
)
ALLOWED = Finding(
    finding_id="group-bbbbbb", kind="group", severity="leak", images=(image("c.png"),), text="one part on both sides"
)
LABEL = Finding(finding_id="blank-cccccc", kind="blank", severity="label", images=(image("e.png"),), text="empty")
NOTE = Finding(finding_id="known-dddddd", kind="known", severity="note", images=(), text="22 metal nuts")


def make_report(**changes: object) -> AuditReport:
    values: dict[str, object] = {
        "findings": (LEAK, ALLOWED, LABEL, NOTE),
        "allow": ("group-bbbbbb",),
        "num_images": 40,
        "num_other": 0,
        "searched_near_duplicates": True,
        "roles_from": "protocol",
    }
    return AuditReport(**{**values, **changes})


@pytest.fixture
def pictures() -> dict[str, AuditPicture]:
    def picture(size_hw: tuple[int, int]) -> AuditPicture:
        return AuditPicture(rgb=np.full((30, 40, 3), 90, dtype=np.uint8), size_hw=size_hw, num_bytes=1234)

    return {"data/a.png": picture((300, 400)), "data/b.jpg": picture((150, 200))}


def test_rows_are_plain_and_in_order() -> None:
    rows = audit_rows(make_report())
    assert [(row.severity, row.finding_id, row.num_images) for row in rows] == [
        ("leak", "near-aaaaaa", 2),
        ("allowed leak", "group-bbbbbb", 1),
        ("label", "blank-cccccc", 1),
        ("note", "known-dddddd", 0),
    ]
    assert rows[0].what == "same picture in another file"


def test_summary_counts() -> None:
    assert summary(make_report()) == "40 images: 2 leaks (1 allowed), 1 label problems, 1 notes"
    assert "compared with 7 images of other folders" in summary(make_report(num_other=7))


def test_every_finding_is_on_the_page(pictures) -> None:
    page = render_audit_page(make_report(), pictures, title="steel")
    for finding in (LEAK, ALLOWED, LABEL, NOTE):
        assert page.count(f'id="{finding.finding_id}"') == 1
        assert all(one.image_id in page for one in finding.images)
    assert "22 metal nuts" in page
    assert page.count('<span class="tag">allowed</span>') == 1


def test_the_page_stands_alone_and_runs_nothing(pictures) -> None:
    page = render_audit_page(make_report(), pictures, title="steel")
    assert page.count('src="data:image/jpeg;base64,') == 2
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert "prefers-color-scheme: dark" in page


def test_text_is_escaped(pictures) -> None:
    page = render_audit_page(make_report(), pictures, title="<steel>")
    assert "&lt;steel&gt;" in page
    assert "&lt;b&gt;show&lt;/b&gt;" in page


def test_what_differs_is_marked_and_what_agrees_is_not(pictures) -> None:
    page = render_audit_page(make_report(findings=(LEAK,)), pictures, title="steel")
    differing = re.findall(r'<dt>([^<]*)</dt><dd class="differs">([^<]*)</dd>', page)
    assert differing == [
        ("role", "train"),
        ("size", "400 \N{MULTIPLICATION SIGN} 300 pixels"),
        ("role", "test"),
        ("size", "200 \N{MULTIPLICATION SIGN} 150 pixels"),
    ]
    assert "<dt>file</dt><dd>1,234 bytes</dd>" in page


def test_images_without_a_picture_are_named() -> None:
    page = render_audit_page(make_report(findings=(LEAK,)), {}, title="steel")
    assert page.count("not drawn") == 2


def test_of_many_images_some_of_every_role_are_shown() -> None:
    images = (*(image(f"{i:02d}.png") for i in range(30)), image("z.png", role="test"))
    finding = Finding(finding_id="dup-eeeeee", kind="dup", severity="leak", images=images, text="many")
    shown = shown_images(finding)
    assert len(shown) == MAX_IMAGES_SHOWN
    assert {one.role for one in shown} == {"train", "test"}
    assert "and 19 more" in render_audit_page(make_report(findings=(finding,)), {}, title="steel")


def test_pictures_are_limited_leaks_first() -> None:
    assert pictured(make_report(), max_thumbnails=3) == ("data/a.png", "data/b.jpg", "data/c.png")
    assert pictured(make_report(), max_thumbnails=0) == ()


@pytest.mark.parametrize(
    ("changes", "notice"),
    [({"roles_from": "folders"}, "protocol could not be met"), ({"searched_near_duplicates": False}, "equal bytes")],
)
def test_what_was_not_done_is_said(changes, notice) -> None:
    assert notice in render_audit_page(make_report(**changes), {}, title="steel")
    assert notice not in render_audit_page(make_report(), {}, title="steel")


def test_a_clean_report_says_so() -> None:
    assert render_audit_page(make_report(findings=()), {}, title="steel").count("Nothing found") == 3
