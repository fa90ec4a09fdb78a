"""Records in, what binds images to one side of a split out: equal content, one group, one family of data sets."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from velm_train.core.audit import Finding, finding_id
from velm_train.core.records import ImageRecord
from velm_train.datasets.audit.findings import Cast, make_finding

FAMILIES: tuple[tuple[str, frozenset[str]], ...] = (
    (
        "MVTec AD",
        frozenset({"mvtec", "mvtecad", "mvtecac", "mvtecfs", "dsmvtec", "defectspectrum", "mmad"}),
    ),
    ("VisA", frozenset({"visa", "visaac", "visadr", "visapytorch", "mmad"})),
)
"""Data sets that are made of the same photographs; names in lower case, letters and digits only."""


def same_content(records: Sequence[ImageRecord]) -> dict[str, list[ImageRecord]]:
    """Returns finding id -> images of equal bytes, where there are several."""
    by_content: dict[str, list[ImageRecord]] = defaultdict(list)
    for record in records:
        by_content[record.sha256].append(record)
    return {
        finding_id("dup", [record.image_id for record in some]): some for some in by_content.values() if len(some) > 1
    }


def same_group(records: Sequence[ImageRecord]) -> dict[str, list[ImageRecord]]:
    """Returns finding id -> images of one physical part, where there are several."""
    by_group: dict[str, list[ImageRecord]] = defaultdict(list)
    for record in records:
        if record.group_id != record.image_id:
            by_group[record.group_id].append(record)
    return {
        finding_id("group", [record.image_id for record in some]): some for some in by_group.values() if len(some) > 1
    }


def content_findings(cast: Cast) -> Iterator[Finding]:
    """Yields what is to be said of files of equal bytes."""
    for some in same_content(cast.records).values():
        if cast.on_both_sides(some):
            yield cast.finding(
                "dup", "leak", some, text=f"{cast.named(some)} hold the same bytes on both sides; keep one of them"
            )
        else:
            yield cast.finding(
                "dup", "note", some, text=f"{cast.named(some)} hold the same bytes; one of them adds nothing"
            )
        labels = {(record.category, record.defect_type) for record in some}
        if len(labels) > 1:
            said = " and ".join(sorted("/".join(label) for label in labels))
            yield cast.finding(
                "two",
                "label",
                some,
                text=f"{cast.named(some)} hold the same bytes but are labelled {said}; one is wrong",
            )


def group_findings(cast: Cast) -> Iterator[Finding]:
    """Yields the physical parts that are both trained on and tested."""
    for some in same_group(cast.records).values():
        if cast.on_both_sides(some):
            yield cast.finding(
                "group",
                "leak",
                some,
                text=f"{cast.named(some)} show one part (group {some[0].group_id!r}) on both sides; keep a part on one",
            )


def folder_findings(cast: Cast) -> Iterator[Finding]:
    """Yields the normals that the system knows beforehand although the data set keeps them for testing."""
    taken: dict[tuple[str, str], list[ImageRecord]] = defaultdict(list)
    for record in cast.records:
        if record.split == "test" and cast.trained(record) and not record.gt_label:
            taken[record.category, cast.roles[record.image_id]].append(record)
    for (_, role), some in sorted(taken.items()):
        yield cast.finding(
            "folder",
            "leak",
            some,
            text=f"{cast.named(some)}: normal images of the test folder have role {role}; take them from the training "
            "folder",
        )


def family_findings(cast: Cast, *, other_names: Sequence[str]) -> Iterator[Finding]:
    """Yields pairs of data sets that show the same photographs, one known beforehand and the other tested.

    Args:
        cast: images and roles.
        other_names: names of folders from elsewhere, which count as known.
    """
    trained = {record.dataset for record in cast.records if cast.trained(record)} | set(other_names)
    tested = {record.dataset for record in cast.records if cast.tested(record)}
    for family, members in FAMILIES:
        for one in sorted(name for name in trained if _plain(name) in members):
            for other in sorted(name for name in tested if _plain(name) in members and name != one):
                yield make_finding(
                    "family",
                    "leak",
                    [],
                    text=f"data set {one!r} is known before the test and {other!r} is tested, but both are made of the "
                    f"photographs of {family}, re-encoded or not; test on another data set",
                )


def known_findings(cast: Cast) -> Iterator[Finding]:
    """Yields published faults of the data sets by name."""
    for name in sorted({record.dataset for record in cast.records}):
        if _plain(name) in {"dsmvtec", "mmad"}:
            yield make_finding(
                "known",
                "note",
                [],
                text=f"data set {name!r}: 22 images of pill/good are metal nuts (issues 15 and 19 of the MMAD "
                "repository); look for misfit findings and leave them out",
            )


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
