"""Records and roles in, findings out: the one place where findings are put into words and ids."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from velm_train.core.audit import AuditedImage, Finding, FindingKind, Severity, finding_id
from velm_train.core.records import ImageRecord, Role
from velm_train.datasets.manifests import TRAIN_SIDE

SEVERITY_ORDER: tuple[Severity, ...] = ("leak", "label", "note")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cast:
    """The images of the audit with their roles.

    Attributes:
        roles: image_id -> role; images without one take no part in the run.
    """

    records: tuple[ImageRecord, ...]
    roles: Mapping[str, Role]

    def trained(self, record: ImageRecord) -> bool:
        """True if the system may know the image's pixels before the test."""
        return self.roles.get(record.image_id) in TRAIN_SIDE

    def tested(self, record: ImageRecord) -> bool:
        """True if the image is for validation or test."""
        return record.image_id in self.roles and not self.trained(record)

    def on_both_sides(self, records: Iterable[ImageRecord]) -> bool:
        """True if some of the images are trained on and some tested."""
        some = list(records)
        return any(self.trained(record) for record in some) and any(self.tested(record) for record in some)

    def audited(self, record: ImageRecord) -> AuditedImage:
        """Returns what a finding says of an image."""
        return AuditedImage(
            image_id=record.image_id,
            path=record.image_path.as_posix(),
            role=self.roles.get(record.image_id, ""),
            dataset=record.dataset,
            label=f"{record.category}/{record.defect_type}",
        )

    def finding(self, kind: FindingKind, severity: Severity, records: Iterable[ImageRecord], *, text: str) -> Finding:
        """Returns a finding about images of the data set."""
        return make_finding(kind, severity, [self.audited(record) for record in records], text=text)

    def named(self, records: Sequence[ImageRecord]) -> str:
        """Returns up to three images by id and role, and how many more there are; one of each side comes first."""
        order = sorted(records, key=lambda record: record.image_id)
        first = [next((r for r in order if self.trained(r)), None), next((r for r in order if self.tested(r)), None)]
        shown = [record for record in first if record is not None]
        shown += [record for record in order if record not in shown]
        words = [f"{r.image_id} ({self.roles.get(r.image_id, 'no role')})" for r in shown[:3]]
        rest = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
        return ", ".join(words) + rest


def make_finding(kind: FindingKind, severity: Severity, images: Sequence[AuditedImage], *, text: str) -> Finding:
    """Returns a finding with its id; where there are no images, the sentence stands for them."""
    ids = [image.image_id for image in images]
    return Finding(
        finding_id=finding_id(kind, ids or [text]),
        kind=kind,
        severity=severity,
        images=tuple(sorted(images, key=lambda image: image.image_id)),
        text=text,
    )


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Returns the findings by severity, kind and id."""
    return tuple(sorted(findings, key=lambda one: (SEVERITY_ORDER.index(one.severity), one.kind, one.finding_id)))
