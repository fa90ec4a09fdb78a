"""Records and their masks in, what is wrong with labels, masks, sizes and files out."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from velm_train.core.audit import AuditedImage, Finding, FindingKind
from velm_train.core.errors import DataError
from velm_train.core.images import read_gt_mask, read_size_hw
from velm_train.core.progress import Advance
from velm_train.core.records import ImageRecord, SizeHW
from velm_train.datasets.audit.findings import Cast, make_finding
from velm_train.datasets.file_index import FileIndex
from velm_train.datasets.indexing import Excluded

MAX_ASPECT = 10.0
"""Longer side over shorter side beyond which an image is taken for a mistake."""

_Judge = Callable[[ImageRecord], bool]


def few_findings(cast: Cast, *, k_shot: int) -> Iterator[Finding]:
    """Yields the types of trained categories that have fewer images than the protocol shows of each."""
    trained = {record.category for record in cast.records if record.gt_label and cast.trained(record)}
    by_type: dict[tuple[str, str], list[ImageRecord]] = defaultdict(list)
    for record in cast.records:
        if record.gt_label and (record.category in trained or not trained):
            by_type[record.category, record.defect_type].append(record)
    for (category, defect_type), some in sorted(by_type.items()):
        if len(some) < k_shot:
            yield cast.finding(
                "few",
                "label",
                some,
                text=f"{category}/{defect_type}: {len(some)} images, fewer than protocol.k_shot={k_shot}; add images, "
                "merge the type with another, or lower protocol.k_shot",
            )


def mask_findings(cast: Cast, *, index: FileIndex, advance: Advance) -> Iterator[Finding]:
    """Yields defects without a marked pixel, good images with one, and masks that do not fit their image."""
    paths = sorted({path for record in cast.records for path in record.gt_mask_paths})
    facts = dict(zip(paths, index.facts(paths, kind="gt mask 1", compute=_mask_fact, advance=advance), strict=True))
    unreadable = {path: fact for path, fact in facts.items() if isinstance(fact, DataError)}
    for record in cast.records:
        for path in record.gt_mask_paths:
            if path in unreadable:
                yield cast.finding("bad", "label", [record], text=f"{unreadable[path]}")
    known = {
        path: np.frombuffer(fact, dtype=np.int64).tolist() for path, fact in facts.items() if isinstance(fact, bytes)
    }

    def marked(record: ImageRecord) -> int:
        return sum(known[path][2] for path in record.gt_mask_paths)

    def ill_sized(record: ImageRecord) -> bool:
        return any(tuple(known[path][:2]) != record.size_hw for path in record.gt_mask_paths)

    readable = [r for r in cast.records if r.gt_mask_paths and all(path in known for path in r.gt_mask_paths)]
    cases: tuple[tuple[FindingKind, _Judge, str], ...] = (
        ("blank", lambda r: r.gt_label and marked(r) == 0, "the mask of a defect marks no pixel; draw it or remove it"),
        ("stray", lambda r: not r.gt_label and marked(r) > 0, "a mask marks a defect on an image labelled good"),
        ("size", ill_sized, "the mask has another size than its image; save it again at the image's size"),
    )
    for kind, judge, text in cases:
        yield from _by_label(cast, kind, [record for record in readable if judge(record)], text=text)


def size_findings(cast: Cast) -> Iterator[Finding]:
    """Yields images of an extreme shape, and categories of several sizes."""
    extreme = [record for record in cast.records if max(record.size_hw) > MAX_ASPECT * min(record.size_hw)]
    text = f"one side is more than {MAX_ASPECT:.0f} times the other; is this a picture of the part?"
    yield from _by_label(cast, "shape", extreme, text=text)
    by_category: dict[str, list[ImageRecord]] = defaultdict(list)
    for record in cast.records:
        by_category[record.category].append(record)
    for category, some in sorted(by_category.items()):
        counts = Counter(record.size_hw for record in some)
        if len(counts) > 1:
            first = [next(record for record in some if record.size_hw == size) for size, _ in counts.most_common(6)]
            said = ", ".join(f"{h}x{w} ({number})" for (h, w), number in counts.most_common(6))
            yield cast.finding(
                "sizes",
                "note",
                first,
                text=f"{category} holds images of {len(counts)} sizes (height x width): {said}; the detector brings "
                "all to one",
            )


def bad_findings(cast: Cast, *, excluded: Sequence[Excluded], failures: Mapping[Path, DataError]) -> Iterator[Finding]:
    """Yields files that the reader has left out, and files that cannot be decoded to their end."""
    for one in excluded:
        image = AuditedImage(image_id=one.path, path=one.path, role="", dataset="", label="")
        yield make_finding("bad", "label", [image], text=one.reason)
    for record in cast.records:
        if record.image_path in failures:
            yield cast.finding("bad", "label", [record], text=str(failures[record.image_path]))


def _by_label(cast: Cast, kind: FindingKind, records: Sequence[ImageRecord], *, text: str) -> Iterator[Finding]:
    """Yields one finding for each category and type, so that a fault of a whole folder is said once."""
    by_type: dict[tuple[str, str], list[ImageRecord]] = defaultdict(list)
    for record in records:
        by_type[record.category, record.defect_type].append(record)
    for (category, defect_type), some in sorted(by_type.items()):
        images = "1 image" if len(some) == 1 else f"{len(some)} images"
        yield cast.finding(kind, "label", some, text=f"{category}/{defect_type}, {images}: {text}")


def _mask_fact(path: Path) -> bytes:
    """Returns height, width and the number of marked pixels."""
    size_hw: SizeHW = read_size_hw(path)
    gt_mask = read_gt_mask(path, size_hw=size_hw)
    return np.array([*size_hw, np.count_nonzero(gt_mask)], dtype=np.int64).tobytes()
