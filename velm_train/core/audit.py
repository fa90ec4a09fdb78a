"""What the audit of a data set says: findings with stable ids, plain enough for JSON, and the refusal of leaks."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from velm_train.core.errors import DataError
from velm_train.core.hashing import sha256_json
from velm_train.core.plain import read_record

Severity = Literal["leak", "label", "note"]
"""A leak stops training; a label problem may cost quality; a note is worth knowing."""

FindingKind = Literal[
    "dup",
    "near",
    "group",
    "folder",
    "family",
    "few",
    "blank",
    "stray",
    "size",
    "bad",
    "shape",
    "two",
    "misfit",
    "sizes",
    "known",
]

KIND_TITLES: dict[str, str] = {
    "dup": "same content",
    "near": "same picture in another file",
    "group": "one part on both sides",
    "folder": "normal taken from the test folder",
    "family": "data sets of the same pixels",
    "few": "too few images of a type",
    "blank": "defect with an empty mask",
    "stray": "good image with a mask",
    "size": "mask of another size",
    "bad": "file that cannot be used",
    "shape": "extreme shape",
    "two": "two labels for one content",
    "misfit": "image that does not look like its category",
    "sizes": "several image sizes",
    "known": "known fault of this data set",
}
"""Kind -> what it is in a few words."""

ID_DIGITS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditedImage:
    """One image of a finding.

    Attributes:
        role: in the protocol; "" for none, "other" for an image of another folder.
        dataset: name of its data set or folder.
        label: category and defect type, or "" for an image of another folder.
    """

    image_id: str
    path: str
    role: str
    dataset: str
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that is wrong or worth knowing.

    Attributes:
        finding_id: kind and a hash of kind and sorted image ids; the same on every machine and in every split.
        images: sorted by image_id; empty for what concerns no single image.
        text: one sentence: what it is and what to do.
    """

    finding_id: str
    kind: FindingKind
    severity: Severity
    images: tuple[AuditedImage, ...]
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditReport:
    """Everything an audit found.

    Attributes:
        findings: leaks first, then label problems, then notes.
        allow: ids of findings that the user has looked at and allows.
        num_images: images of the data set that were audited.
        num_other: images of other folders that they were compared with.
        searched_near_duplicates: False if only files of equal bytes were compared.
        roles_from: "protocol", or "folders" if the protocol gave no roles.
    """

    findings: tuple[Finding, ...]
    allow: tuple[str, ...]
    num_images: int
    num_other: int
    searched_near_duplicates: bool
    roles_from: str

    @property
    def leaks_not_allowed(self) -> tuple[Finding, ...]:
        """The leaks that stop training."""
        return tuple(one for one in self.findings if one.severity == "leak" and one.finding_id not in self.allow)

    @property
    def allowed(self) -> tuple[Finding, ...]:
        """The leaks that the user allows."""
        return tuple(one for one in self.findings if one.severity == "leak" and one.finding_id in self.allow)

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """Returns the findings of one severity."""
        return tuple(one for one in self.findings if one.severity == severity)

    def to_json(self) -> dict[str, Any]:
        """Returns a plain dictionary that `from_json` reads back to an equal record."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> "AuditReport":
        """Reads what `to_json` gave.

        Raises:
            DataError: if a field is missing, unknown or of another kind.
        """
        return read_record(cls, body)


def finding_id(kind: FindingKind, names: list[str]) -> str:
    """Returns the id of a finding about these images, or about these names where there are no images."""
    return f"{kind}-{sha256_json([kind, *sorted(names)])[:ID_DIGITS]}"


def require_no_leak(report: AuditReport) -> None:
    """Refuses to go on with a leak that the user has not allowed.

    Raises:
        DataError: naming the findings and the way out.
    """
    leaks = report.leaks_not_allowed
    if not leaks:
        return
    count = "1 leak" if len(leaks) == 1 else f"{len(leaks)} leaks"
    shown = "; ".join(f"{one.finding_id}: {one.text}" for one in leaks[:3])
    rest = f"; and {len(leaks) - 3} more" if len(leaks) > 3 else ""
    ids = ",".join(sorted([*report.allow, *(one.finding_id for one in leaks)]))
    raise DataError(
        f"the audit found {count} between training and test: {shown}{rest}. Mend the data (python -m velm_train "
        f"task=audit shows every finding), or accept with audit.allow=[{ids}]"
    )
