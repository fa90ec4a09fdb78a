"""An audit report and small pictures go in; table rows for the terminal and one self-contained HTML page come out."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from velm_train.core.artifacts import write_atomic
from velm_train.core.audit import KIND_TITLES, AuditedImage, AuditReport, Finding, Severity
from velm_train.core.records import SizeHW
from velm_train.reporting.figures import SmallRGB
from velm_train.reporting.pages import render_page

MAX_IMAGES_SHOWN = 12
"""Images of one finding that the page shows or names; the rest is counted."""

SECTIONS: tuple[tuple[Severity, str, str], ...] = (
    ("leak", "Leaks", "What is tested was known before. Training does not start on a leak that is not allowed."),
    ("label", "Label problems", "Labels, masks and files that are probably wrong."),
    ("note", "Notes", "Worth knowing; nothing has to be done."),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditPicture:
    """One image made small, with what its file is like.

    Attributes:
        size_hw: of the image itself, pixels.
        num_bytes: of the file.
    """

    rgb: SmallRGB
    size_hw: SizeHW
    num_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditRow:
    """One finding in the terminal's table; plain text without markup."""

    severity: str
    finding_id: str
    what: str
    num_images: int
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """One thing to say of an image; `differs` if it is not the same for all images of the finding."""

    name: str
    value: str
    differs: bool


def audit_rows(report: AuditReport) -> tuple[AuditRow, ...]:
    """Returns every finding as plain text, in the report's order."""
    return tuple(
        AuditRow(
            severity="allowed leak" if one in report.allowed else one.severity,
            finding_id=one.finding_id,
            what=KIND_TITLES[one.kind],
            num_images=len(one.images),
            text=one.text,
        )
        for one in report.findings
    )


def summary(report: AuditReport) -> str:
    """Returns one sentence with the counts."""
    counts = Counter(one.severity for one in report.findings)
    allowed = f" ({len(report.allowed)} allowed)" if report.allowed else ""
    others = f", compared with {report.num_other} images of other folders" if report.num_other else ""
    return (
        f"{report.num_images} images{others}: {counts['leak']} leaks{allowed}, {counts['label']} label problems, "
        f"{counts['note']} notes"
    )


def pictured(report: AuditReport, *, max_thumbnails: int) -> tuple[str, ...]:
    """Returns the paths of the images to draw: those of each finding that the page shows, leaks first."""
    paths = [image.path for one in report.findings for image in shown_images(one)]
    return tuple(dict.fromkeys(paths))[:max_thumbnails]


def write_audit_page(report: AuditReport, pictures: Mapping[str, AuditPicture], path: Path, *, title: str) -> None:
    """Writes the page atomically.

    Args:
        report: what was found.
        pictures: image path -> picture; images without one are named.
        path: the HTML file.
        title: name of the run.

    Raises:
        ResourceError: if the file cannot be written.
    """
    write_atomic(path, render_audit_page(report, pictures, title=title))


def render_audit_page(report: AuditReport, pictures: Mapping[str, AuditPicture], *, title: str) -> str:
    """Returns the page as HTML text."""
    return render_page(
        "audit.html.j2",
        styles=("report.css", "audit.css"),
        names={"report": report, "title": title, "view": AuditView(report, pictures)},
    )


def shown_images(finding: Finding) -> tuple[AuditedImage, ...]:
    """Returns the images of a finding that a reader has to see: some of every role, in the finding's order."""
    by_role: dict[str, list[AuditedImage]] = {}
    for image in finding.images:
        by_role.setdefault(image.role, []).append(image)
    chosen: list[AuditedImage] = []
    longest = max((len(images) for images in by_role.values()), default=0)
    for place in range(longest):
        chosen += [images[place] for images in by_role.values() if place < len(images)]
    kept = set(chosen[:MAX_IMAGES_SHOWN])
    return tuple(image for image in finding.images if image in kept)


class AuditView:
    """What the template asks about the report beyond its plain fields."""

    sections = SECTIONS

    def __init__(self, report: AuditReport, pictures: Mapping[str, AuditPicture]) -> None:
        """Remembers the report and the pictures."""
        self._report = report
        self._pictures = pictures

    def summary(self) -> str:
        """Returns one sentence with the counts."""
        return summary(self._report)

    def what(self, finding: Finding) -> str:
        """Returns what kind of finding it is."""
        return KIND_TITLES[finding.kind]

    def is_allowed(self, finding: Finding) -> bool:
        """True if the user allows the leak."""
        return finding in self._report.allowed

    def shown(self, finding: Finding) -> tuple[AuditedImage, ...]:
        """Returns the images of a finding that are shown or named."""
        return shown_images(finding)

    def picture(self, image: AuditedImage) -> AuditPicture | None:
        """Returns an image's picture, or None if there is none."""
        return self._pictures.get(image.path)

    def facts(self, image: AuditedImage, finding: Finding) -> list[Fact]:
        """Returns what is known of an image, marked where the finding's images differ."""
        columns = [self._values(other) for other in shown_images(finding)]
        return [
            Fact(name=name, value=value, differs=len({column[name] for column in columns if name in column}) > 1)
            for name, value in self._values(image).items()
            if value
        ]

    def _values(self, image: AuditedImage) -> dict[str, str]:
        values = {"role": image.role or "none", "label": image.label, "data set": image.dataset}
        picture = self.picture(image)
        if picture is not None:
            values["size"] = f"{picture.size_hw[1]} \N{MULTIPLICATION SIGN} {picture.size_hw[0]} pixels"
            values["file"] = f"{picture.num_bytes:,} bytes"
        return values
