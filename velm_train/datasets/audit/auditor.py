"""The audit of a data set: records, roles and other folders in, one `AuditReport` out.

records, roles ─┬─► bonds (bytes, groups, families of data sets) ─────────────┐
                ├─► labels (types, masks, sizes, files) ──────────────────────┤
other folders ──┴─► fingerprints ─┬─► near duplicates (copies in other files) ┼──► findings ──► AuditReport
                                  └─► misfits (images of another category) ───┘
"""

import dataclasses
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from velm_train.core.audit import AuditedImage, AuditReport, Finding, finding_id
from velm_train.core.errors import ConfigError, DataError
from velm_train.core.hashing import sha256_file, sha256_json
from velm_train.core.progress import Progress, SilentProgress
from velm_train.core.records import ImageRecord, Role
from velm_train.datasets.audit.bonds import (
    content_findings,
    family_findings,
    folder_findings,
    group_findings,
    known_findings,
    same_content,
    same_group,
)
from velm_train.datasets.audit.copies import Gallery, copied_bytes, copy_findings
from velm_train.datasets.audit.findings import Cast, in_order
from velm_train.datasets.audit.fingerprints import Fingerprints, read_fingerprints
from velm_train.datasets.audit.labels import bad_findings, few_findings, mask_findings, size_findings
from velm_train.datasets.audit.misfits import find_misfits
from velm_train.datasets.file_index import FileIndex
from velm_train.datasets.indexing import Excluded
from velm_train.datasets.reading import is_image_name, nearest

logger = logging.getLogger(__name__)

AUDIT_VERSION = 2
"""Raised when the same images give other findings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditSettings:
    """How to audit.

    Attributes:
        near_duplicates: whether to look for one picture in several files; equal bytes are always looked for.
        extra_folders: folders of other images that the system may know, each with all folders inside it.
        k_shot: defects of each type that the protocol trains on, 0 for none or all.
        roles_from: "protocol" or "folders", where the roles come from.
    """

    near_duplicates: bool
    extra_folders: tuple[Path, ...]
    k_shot: int
    roles_from: str


def audit(
    records: Sequence[ImageRecord],
    roles: Mapping[str, Role],
    *,
    excluded: Sequence[Excluded],
    settings: AuditSettings,
    index: FileIndex,
    progress: Progress,
) -> AuditReport:
    """Looks at every image and mask once and compares what the two sides of the split hold.

    Args:
        records: images of one or several data sets, those without a role included.
        roles: image_id -> role; images without one may be copies and have faults, but leak nothing.
        excluded: images that the reader left out.
        settings: how to audit.
        index: keeps what is costly to compute between runs.
        progress: receives one unit an image decoded, and one an image compared.

    Returns:
        A report that allows nothing yet.

    Raises:
        DataError: if an extra folder holds no image.
    """
    cast = Cast(records=tuple(sorted(records, key=lambda record: record.image_id)), roles=roles)
    others = _other_images(settings.extra_folders)
    findings = [*content_findings(cast), *group_findings(cast), *folder_findings(cast), *known_findings(cast)]
    findings += family_findings(cast, other_names=[name for folder in settings.extra_folders for name in folder.parts])
    findings += [*few_findings(cast, k_shot=settings.k_shot), *size_findings(cast)]
    num_masks = len({path for record in cast.records for path in record.gt_mask_paths})
    with progress.stage("audit: masks", total=num_masks) as advance:
        findings += mask_findings(cast, index=index, advance=advance)
    paths = list(dict.fromkeys([record.image_path for record in cast.records] + list(others)))
    with progress.stage("audit: fingerprints", total=len(paths)) as advance:
        prints = read_fingerprints(paths, index=index, advance=advance)
    findings += bad_findings(cast, excluded=excluded, failures=prints.failures)
    for path in set(prints.failures) & set(others):
        logger.warning("image of another folder is left out: %s", prints.failures[path])
    findings += _misfit_findings(cast, prints)
    findings += copied_bytes(cast, others, hashes=_hashes(others, index=index) if others else {})
    if settings.near_duplicates:
        gallery = Gallery(cast=cast, others=others, prints=prints)
        with progress.stage("audit: near duplicates", total=gallery.num_asking) as advance:
            findings += copy_findings(gallery, advance=advance)
    return AuditReport(
        findings=in_order(_with_own_ids(findings)),
        allow=(),
        num_images=len(cast.records),
        num_other=len(others),
        searched_near_duplicates=settings.near_duplicates,
        roles_from=settings.roles_from,
    )


def allow_findings(report: AuditReport, allow: Sequence[str], *, records: Sequence[ImageRecord]) -> AuditReport:
    """Returns the report with the findings that the user allows.

    Args:
        report: of `audit`.
        allow: ids of findings.
        records: the audited images; what binds them may be allowed even where this split does not leak it.

    Raises:
        ConfigError: if an id is not that of a finding, with the nearest one.
    """
    known = {one.finding_id for one in report.findings} | set(same_content(records)) | set(same_group(records))
    for name in allow:
        if name not in known:
            raise ConfigError(
                f"audit.allow: {name!r} is no finding of this data{nearest(name, known)}; "
                "python -m velm_train task=audit lists all"
            )
    return dataclasses.replace(report, allow=tuple(sorted(set(allow))))


def loosen(records: Sequence[ImageRecord], allow: Sequence[str]) -> list[ImageRecord]:
    """Returns the records for making a split in which allowed copies and parts may lie on both sides.

    Each image of an allowed finding about equal bytes or one part gets a content and a group of its own; only the split
    may see these records.
    """
    loosened: set[str] = set()
    contents, groups = same_content(records), same_group(records)
    for name in allow:
        loosened |= {record.image_id for record in contents.get(name, []) + groups.get(name, [])}
    return [
        dataclasses.replace(record, sha256=_own_hash(record), group_id=record.image_id)
        if record.image_id in loosened
        else record
        for record in records
    ]


def folder_roles(records: Sequence[ImageRecord]) -> dict[str, Role]:
    """Returns the roles that the folders alone suggest, for data that no protocol can split."""
    return {record.image_id: "train" if record.split == "train" else "test" for record in records}


def _own_hash(record: ImageRecord) -> str:
    return sha256_json([record.sha256, record.image_id])


def _with_own_ids(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Yields the findings; where two share an id, both get one of their sentence as well."""
    counts = Counter(one.finding_id for one in findings)
    for one in findings:
        if counts[one.finding_id] > 1:
            names = [*(image.image_id for image in one.images), one.text]
            yield dataclasses.replace(one, finding_id=finding_id(one.kind, names))
        else:
            yield one


def _other_images(folders: Sequence[Path]) -> dict[Path, AuditedImage]:
    """Returns every image below the folders, with what a finding says of it."""
    found: dict[Path, AuditedImage] = {}
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"audit.extra_folders: {folder} is not a folder; name a folder of images")
        paths = sorted(
            Path(place) / name for place, _, names in os.walk(folder) for name in names if is_image_name(name)
        )
        if not paths:
            raise DataError(f"audit.extra_folders: {folder} holds no images; name a folder of images")
        for path in paths:
            found[path] = AuditedImage(
                image_id=f"{folder.name}/{path.relative_to(folder).as_posix()}",
                path=path.as_posix(),
                role="other",
                dataset=folder.name,
                label="",
            )
    return found


def _hashes(paths: Mapping[Path, AuditedImage], *, index: FileIndex) -> dict[Path, str]:
    with SilentProgress().stage("", total=0) as advance:
        facts = [*index.facts(list(paths), kind="sha256 1", compute=_hash, advance=advance)]
    return {path: fact.decode() for path, fact in zip(paths, facts, strict=True) if isinstance(fact, bytes)}


def _hash(path: Path) -> bytes:
    return sha256_file(path).encode()


def _misfit_findings(cast: Cast, prints: Fingerprints) -> Iterator[Finding]:
    places = {path: place for place, path in enumerate(prints.paths)}
    shown = [record for record in cast.records if record.image_path in places]
    colours = prints.colours[np.array([places[record.image_path] for record in shown], dtype=np.int64)]
    by_pair: dict[tuple[str, str], list[ImageRecord]] = defaultdict(list)
    for place, other in find_misfits(colours, categories=[record.category for record in shown]).items():
        by_pair[shown[place].category, other].append(shown[place])
    for (category, other), some in sorted(by_pair.items()):
        images = "1 image of" if len(some) == 1 else f"{len(some)} images of"
        yield cast.finding(
            "misfit",
            "label",
            some,
            text=f"{images} {category} look like {other} ({cast.named(some)}); move them there, or leave them out",
        )
