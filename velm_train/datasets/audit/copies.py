"""Fingerprints and roles in, findings about one picture in several files out."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from velm_train.core.audit import AuditedImage, Finding
from velm_train.core.progress import Advance
from velm_train.core.records import ImageRecord
from velm_train.datasets.audit.findings import Cast, make_finding
from velm_train.datasets.audit.fingerprints import Fingerprints
from velm_train.datasets.audit.near_duplicates import OTHER, TEST, TRAIN, NearPair, find_near_duplicates

MAX_COPIED = 5
MAX_COPIED_FRACTION = 0.1
"""Images of a category in sets of alike ones, and their share, beyond which they are alike by nature, not copied."""

CERTAIN_CORRELATION = 0.97
"""Of fine structure; from here on two files show one shot, whatever the category is like."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gallery:
    """Every image that can be compared.

    Attributes:
        others: images of other folders.
        prints: of all readable images.
    """

    cast: Cast
    others: Mapping[Path, AuditedImage]
    prints: Fingerprints

    @property
    def shown(self) -> list[ImageRecord]:
        """The readable images of the data set."""
        readable = set(self.prints.paths)
        return [record for record in self.cast.records if record.image_path in readable]

    @property
    def shown_others(self) -> list[AuditedImage]:
        """The readable images of other folders that are no files of the data set itself."""
        own = {record.image_path for record in self.cast.records}
        return [self.others[path] for path in self.prints.paths if path in self.others and path not in own]

    @property
    def num_asking(self) -> int:
        """Images whose neighbours are sought."""
        return len(self.shown)


def copied_bytes(cast: Cast, others: Mapping[Path, AuditedImage], *, hashes: Mapping[Path, str]) -> Iterator[Finding]:
    """Yields the tested images whose bytes another folder holds.

    Args:
        cast: images and roles.
        others: images of other folders.
        hashes: SHA-256 of those that can be read.
    """
    own = {record.image_path for record in cast.records}
    by_content: dict[str, list[AuditedImage]] = defaultdict(list)
    for path, digest in hashes.items():
        if path not in own:
            by_content[digest].append(others[path])
    for record in cast.records:
        if cast.tested(record) and record.sha256 in by_content:
            images = [cast.audited(record), *by_content[record.sha256]]
            yield make_finding(
                "dup",
                "leak",
                images,
                text=f"{cast.named([record])} holds the same bytes as {images[1].path}; a model that has seen that "
                "folder must not be tested on it",
            )


def copy_findings(gallery: Gallery, *, advance: Advance) -> Iterator[Finding]:
    """Yields one finding for each set of files that show one picture, equal bytes and groups known as such aside.

    Args:
        gallery: what to compare.
        advance: receives the number of images whose neighbours are known.
    """
    cast, records, others = gallery.cast, gallery.shown, gallery.shown_others
    places = {path: place for place, path in enumerate(gallery.prints.paths)}
    order = [places[record.image_path] for record in records] + [places[Path(other.path)] for other in others]
    pairs = find_near_duplicates(
        gallery.prints.thumbnails[np.array(order, dtype=np.int64)],
        categories=[record.category for record in records] + [""] * len(others),
        sides=[_side(cast, record) for record in records] + [OTHER] * len(others),
        advance=advance,
    )
    new = [
        pair for pair in pairs if pair.second >= len(records) or not _bound(records[pair.first], records[pair.second])
    ]
    uniform = _uniform_categories(records, [members for members, _ in _clusters(new)])
    doubtful = [
        pair
        for pair in new
        if pair.correlation < CERTAIN_CORRELATION
        and any(place < len(records) and records[place].category in uniform for place in (pair.first, pair.second))
    ]
    certain = sorted(set(new) - set(doubtful), key=lambda pair: (pair.first, pair.second))
    for pairs_of_kind, is_doubtful in ((certain, False), (doubtful, True)):
        for members, worst in _clusters(pairs_of_kind):
            own = [records[place] for place in members if place < len(records)]
            foreign = [others[place - len(records)] for place in members if place >= len(records)]
            yield _finding(cast, own, foreign, correlation=worst, doubtful=is_doubtful)


def _uniform_categories(records: Sequence[ImageRecord], clusters: Sequence[Sequence[int]]) -> set[str]:
    """Returns the categories with more alike images than copies explain: their parts differ by noise alone."""
    num_images = Counter(record.category for record in records)
    num_alike = Counter(records[place].category for members in clusters for place in members if place < len(records))
    return {
        name for name, alike in num_alike.items() if alike > max(MAX_COPIED, MAX_COPIED_FRACTION * num_images[name])
    }


def _finding(
    cast: Cast, own: list[ImageRecord], foreign: list[AuditedImage], *, correlation: float, doubtful: bool
) -> Finding:
    leaks = cast.on_both_sides(own) or (foreign and any(cast.tested(record) for record in own))
    names = ", ".join([cast.named(own), *(image.path for image in foreign[:2])])
    alike = f"{names} show one picture (fine structure correlates by {correlation:.2f} or more)"
    advice = "keep all of them on one side" if leaks else "copies add nothing"
    if doubtful:
        advice = "so do many images of the category, and copies cannot be told from like parts there; look for yourself"
    return make_finding(
        "near",
        "leak" if leaks and not doubtful else "note",
        [*(cast.audited(record) for record in own), *foreign],
        text=f"{alike}; {advice}",
    )


def _side(cast: Cast, record: ImageRecord) -> int:
    """Returns the side of the role; the folder's for an image without one, so that copies are found in every split."""
    if record.image_id in cast.roles:
        return TRAIN if cast.trained(record) else TEST
    return TRAIN if record.split == "train" else TEST


def _bound(one: ImageRecord, other: ImageRecord) -> bool:
    """Tells whether two images are known to belong together anyway."""
    return one.sha256 == other.sha256 or (one.dataset == other.dataset and one.group_id == other.group_id)


def _clusters(pairs: list[NearPair]) -> Iterator[tuple[list[int], float]]:
    """Yields the places of images that pairs join, directly or in a chain, and the least correlation of a pair."""
    parent: dict[int, int] = {}

    def find(place: int) -> int:
        while parent.setdefault(place, place) != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for pair in pairs:
        one, other = sorted((find(pair.first), find(pair.second)))
        parent[other] = one
    members: dict[int, list[int]] = defaultdict(list)
    for place in sorted(parent):
        members[find(place)].append(place)
    least: dict[int, float] = {}
    for pair in pairs:
        root = find(pair.first)
        least[root] = min(pair.correlation, least[root]) if root in least else pair.correlation
    for root, places in members.items():
        yield places, least[root]
