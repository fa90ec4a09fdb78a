"""Every task's look at its own data: records and roles in, an audit report and its page out; leaks stop training."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from velm_train.cli.read_data import make_file_index
from velm_train.cli.workshop import Workshop
from velm_train.core.artifacts import StageKey
from velm_train.core.audit import AuditReport, require_no_leak
from velm_train.core.errors import DataError
from velm_train.core.hashing import sha256_json
from velm_train.core.images import read_rgb
from velm_train.core.records import ImageRecord, Role
from velm_train.datasets.audit.auditor import (
    AUDIT_VERSION,
    AuditSettings,
    allow_findings,
    audit,
    folder_roles,
    loosen,
)
from velm_train.datasets.indexing import Excluded
from velm_train.datasets.manifests import SplitManifest
from velm_train.reporting.audit_file import read_audit, write_audit
from velm_train.reporting.audit_page import AuditPicture, audit_rows, pictured, summary, write_audit_page
from velm_train.reporting.figures import thumbnail

THUMBNAIL_PX = 220
"""Longer side of a picture on the page."""

_STYLES = {"leak": "bold red", "allowed leak": "green", "label": "yellow", "note": ""}


def audit_data(
    shop: Workshop,
    records: Sequence[ImageRecord],
    roles: Mapping[str, Role],
    *,
    excluded: Sequence[Excluded] = (),
    roles_from: str = "protocol",
) -> AuditReport:
    """Audits the data, or reads what an earlier run found on the same data; keeps report and page in the run folder.

    Raises:
        ConfigError: if audit.allow names no finding.
        DataError: if an extra folder holds no images.
    """
    config = shop.config
    unused = config.protocol.name in {"zero_shot", "half"}
    settings = AuditSettings(
        near_duplicates=config.audit.near_duplicates,
        extra_folders=tuple(Path(folder).expanduser() for folder in config.audit.extra_folders),
        k_shot=0 if unused else config.protocol.k_shot,
        roles_from=roles_from,
    )

    def build(folder: Path) -> None:
        report = audit(
            records,
            roles,
            excluded=excluded,
            settings=settings,
            index=make_file_index(shop.store),
            progress=shop.progress,
        )
        write_audit(report, folder / "audit.json")

    key = StageKey(
        stage="audit",
        version=AUDIT_VERSION,
        inputs={
            "records": sha256_json(
                [dataclasses.asdict(record) | {"role": roles.get(record.image_id)} for record in records]
            ),
            "masks": sha256_json([*_stamps(path for record in records for path in record.gt_mask_paths)]),
            "excluded": sha256_json(excluded),
            "others": sha256_json([*_stamps(_files(settings.extra_folders))]),
        },
        settings=dataclasses.asdict(settings),
    )
    found = read_audit(shop.store.get_or_build(key, build, title="audit") / "audit.json")
    report = allow_findings(found, config.audit.allow, records=records)
    if shop.run_folder is not None:
        write_audit(report, shop.run_folder / "audit.json")
        pictures = _pictures(pictured(report, max_thumbnails=config.audit.max_thumbnails))
        write_audit_page(report, pictures, shop.run_folder / "audit.html", title=config.name)
    return report


def refuse_leaks(shop: Workshop, records: Sequence[ImageRecord], roles: Mapping[str, Role]) -> AuditReport:
    """Audits the data of a run and refuses to go on with a leak that is not allowed.

    Raises:
        DataError: naming the leaks and how to allow them.
    """
    report = audit_data(shop, records, roles)
    require_no_leak(report)
    shop.progress.note(f"audit: {summary(report)}")
    return report


def refuse_leaks_of_folders(shop: Workshop, records: Sequence[ImageRecord]) -> None:
    """Says which images are the reason where the folders themselves leak and no split can be made.

    Raises:
        DataError: naming the leaks and how to allow them.
    """
    require_no_leak(audit_data(shop, records, folder_roles(records), roles_from="folders"))


def split_with_allowed(
    records: Sequence[ImageRecord], allow: Sequence[str], *, make: Callable[[Sequence[ImageRecord]], SplitManifest]
) -> SplitManifest:
    """Makes a split in which images of allowed findings may be on both sides.

    Raises:
        DataError: as `make`.
    """
    if not allow:
        return make(records)
    manifest = make(loosen(records, allow))
    by_id = {record.image_id: record for record in records}
    entries = tuple(
        dataclasses.replace(entry, sha256=by_id[entry.image_id].sha256, group_id=by_id[entry.image_id].group_id)
        for entry in manifest.entries
    )
    return dataclasses.replace(manifest, entries=entries)


def show_audit(report: AuditReport, console: Console) -> None:
    """Prints the findings as a table."""
    if report.findings:
        table = Table("severity", "id", "what", "images", title="Audit", title_justify="left")
        table.add_column("finding", overflow="fold")
        for row in audit_rows(report):
            style = _STYLES[row.severity]
            table.add_row(
                Text(row.severity, style=style),
                Text(row.finding_id, no_wrap=True),
                Text(row.what),
                Text(f"{row.num_images}"),
                Text(row.text),
            )
        console.print(table)
    console.print(f"audit of {summary(report)}", highlight=False, markup=False)


def _files(folders: Sequence[Path]) -> Iterator[Path]:
    for folder in folders:
        for place, _, names in os.walk(folder):
            yield from (Path(place) / name for name in names)


def _stamps(paths: Iterator[Path]) -> Iterator[tuple[str, int, int]]:
    """Yields what tells whether a file has changed, sorted by path."""
    for path in sorted(set(paths)):
        status = path.stat()
        yield path.as_posix(), status.st_size, status.st_mtime_ns


def _pictures(paths: Sequence[str]) -> dict[str, AuditPicture]:
    """Returns the images that can be read, made small."""
    drawn: dict[str, AuditPicture] = {}
    for path in paths:
        try:
            image = read_rgb(Path(path))
        except DataError:
            continue
        drawn[path] = AuditPicture(
            rgb=thumbnail(image, max_side_px=THUMBNAIL_PX),
            size_hw=(image.shape[0], image.shape[1]),
            num_bytes=Path(path).stat().st_size,
        )
    return drawn
