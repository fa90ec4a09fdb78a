"""Which image has which role: records in, a `SplitManifest` on disk and an audit of it out."""

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from velm_train.core.artifacts import write_atomic
from velm_train.core.errors import ArtifactError, DataError, LeakError
from velm_train.core.hashing import sha256_json
from velm_train.core.records import NORMAL_DEFECT_TYPE, TYPE_JOINER, ImageRecord, Role

MANIFEST_SCHEMA_VERSION = 2

TRAIN_SIDE: frozenset[Role] = frozenset({"train", "calibration", "reference"})
"""Roles whose pixels the system may know before the test; the other side is validation and test."""

_MAX_NAMED = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestEntry:
    """One image and its role."""

    image_id: str
    sha256: str
    role: Role
    category: str
    defect_type: str
    group_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """One image that has no role in the protocol, with the reason."""

    image_id: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitManifest:
    """A protocol made concrete: every image's role, with the hash of its file.

    Attributes:
        protocol: name of the protocol.
        seed: root seed of the selection.
        settings: every other argument of the selection.
        entries: sorted by image_id.
        left_out: sorted by image_id.
        unseen_categories: in alphabetical order; no defect of theirs is on the training side.
        unknown_types: category -> types that are never trained on although their category is; at the test "none of
            these" is the right answer to them.
    """

    protocol: str
    seed: int
    settings: Mapping[str, Any]
    entries: tuple[ManifestEntry, ...]
    left_out: tuple[LeftOut, ...]
    unseen_categories: tuple[str, ...] = ()
    unknown_types: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """The hash of the whole content, equal for equal splits."""
        return sha256_json(self._content())

    def _content(self) -> dict[str, Any]:
        return {
            "schema_version": MANIFEST_SCHEMA_VERSION,
            "protocol": self.protocol,
            "seed": self.seed,
            "settings": dict(self.settings),
            "entries": [dataclasses.asdict(entry) for entry in self.entries],
            "left_out": [dataclasses.asdict(image) for image in self.left_out],
            "unseen_categories": list(self.unseen_categories),
            "unknown_types": {category: list(types) for category, types in self.unknown_types.items()},
        }

    def joint_types(self) -> dict[str, set[str]]:
        """Returns category -> types that stand for several at once, of images with a role."""
        joint: dict[str, set[str]] = defaultdict(set)
        for entry in self.entries:
            if TYPE_JOINER in entry.defect_type:
                joint[entry.category].add(entry.defect_type)
        return dict(joint)

    def with_role(self, role: Role) -> tuple[ManifestEntry, ...]:
        """Returns the entries of one role, sorted by image_id."""
        return tuple(entry for entry in self.entries if entry.role == role)

    def save(self, path: Path) -> None:
        """Writes the manifest as JSON, atomically, with its own hash inside."""
        content = self._content() | {"sha256": self.sha256}
        write_atomic(path, json.dumps(content, indent=1, sort_keys=True) + "\n")

    @classmethod
    def load(cls, path: Path) -> "SplitManifest":
        """Reads a manifest written by `save`.

        Raises:
            ArtifactError: if the file is absent, is not JSON, has another schema version, or was changed.
        """
        remedy = "delete it to have the split made anew, or restore it"
        try:
            content = json.loads(path.read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise ArtifactError(f"split manifest {path} cannot be read ({error}); {remedy}") from error
        if not isinstance(content, dict) or content.get("schema_version") != MANIFEST_SCHEMA_VERSION:
            raise ArtifactError(f"split manifest {path} has not schema version {MANIFEST_SCHEMA_VERSION}; {remedy}")
        if content.pop("sha256", None) != sha256_json(content):
            raise ArtifactError(f"split manifest {path} was changed: its hash does not match its content; {remedy}")
        for entry in content["entries"]:
            if entry["role"] not in get_args(Role):
                raise ArtifactError(f"split manifest {path}: role {entry['role']!r} of {entry['image_id']} is unknown")
        return cls(
            protocol=content["protocol"],
            seed=content["seed"],
            settings=content["settings"],
            entries=tuple(ManifestEntry(**entry) for entry in content["entries"]),
            left_out=tuple(LeftOut(**image) for image in content["left_out"]),
            unseen_categories=tuple(content["unseen_categories"]),
            unknown_types={category: tuple(types) for category, types in content["unknown_types"].items()},
        )

    def check(self, records: Iterable[ImageRecord]) -> None:
        """Compares with the images on disk.

        Raises:
            DataError: naming files that are missing or whose content differs.
        """
        on_disk = {record.image_id: record.sha256 for record in records}
        missing = [entry.image_id for entry in self.entries if entry.image_id not in on_disk]
        differing = [
            entry.image_id for entry in self.entries if on_disk.get(entry.image_id, entry.sha256) != entry.sha256
        ]
        problems = []
        if missing:
            problems.append(f"{len(missing)} images are missing: {_named(missing)}")
        if differing:
            problems.append(f"{len(differing)} images have another content: {_named(differing)}")
        if problems:
            raise DataError(f"split {self.protocol!r} does not fit the images on disk: " + "; ".join(problems))


def _named(names: list[str]) -> str:
    rest = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def assert_no_leak(manifest: SplitManifest) -> list[tuple[str, ...]]:
    """Checks that no content and no group is on both sides of the split, and that what is unseen is not trained on.

    The sides are train, calibration and reference against validation and test. Groups count where they are
    more than the image itself.

    Returns:
        image_ids of exact duplicates inside one side, one tuple for each content, sorted.

    Raises:
        DataError: naming two files that share content or group across the sides, or a defect with a role before the
            test whose category is unseen or whose type is unknown.
    """
    same_content: dict[str, list[ManifestEntry]] = defaultdict(list)
    same_group: dict[str, list[ManifestEntry]] = defaultdict(list)
    for entry in manifest.entries:
        same_content[entry.sha256].append(entry)
        if entry.group_id != entry.image_id:
            same_group[entry.group_id].append(entry)
    for entry in manifest.entries:
        _refuse_unseen(entry, manifest)
    for entries in same_content.values():
        _refuse_two_sides(entries, what="the same content", protocol=manifest.protocol)
    for group_id, entries in same_group.items():
        _refuse_two_sides(entries, what=f"group {group_id!r}", protocol=manifest.protocol)
    return sorted(
        tuple(sorted(entry.image_id for entry in entries)) for entries in same_content.values() if len(entries) > 1
    )


def _refuse_two_sides(entries: list[ManifestEntry], *, what: str, protocol: str) -> None:
    train = [entry for entry in entries if entry.role in TRAIN_SIDE]
    test = [entry for entry in entries if entry.role not in TRAIN_SIDE]
    if train and test:
        raise LeakError(
            f"split {protocol!r} leaks: {train[0].image_id} ({train[0].role}) and {test[0].image_id} "
            f"({test[0].role}) have {what}; both must be on one side"
        )


def _refuse_unseen(entry: ManifestEntry, manifest: SplitManifest) -> None:
    if entry.role == "test" or entry.defect_type == NORMAL_DEFECT_TYPE:
        return
    unknown = manifest.unknown_types[entry.category] if entry.category in manifest.unknown_types else ()
    what = "type is unknown" if entry.defect_type in unknown else "category is unseen"
    if entry.defect_type in unknown or entry.category in manifest.unseen_categories:
        raise LeakError(
            f"split {manifest.protocol!r} leaks: {entry.image_id} has role {entry.role}, but its {what}; "
            "such a defect may only be tested"
        )
