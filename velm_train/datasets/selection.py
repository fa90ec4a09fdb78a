"""The selection behind a protocol: records in, every image's role or the reason why it has none out."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from velm_train.core.errors import DataError
from velm_train.core.records import NORMAL_DEFECT_TYPE, ImageRecord, Role
from velm_train.core.seeding import derive_seed
from velm_train.datasets.manifests import LeftOut, ManifestEntry

_Side = Literal["train", "test"]


def _bind_units(records: Sequence[ImageRecord]) -> dict[str, str]:
    """Returns image_id -> unit; images joined by equal content or group, directly or in a chain, share a unit."""
    parent: dict[str, str] = {}

    def find(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for record in records:
        one, other = sorted((find(f"group {record.group_id}"), find(f"content {record.sha256}")))
        parent[other] = one
    return {record.image_id: find(f"group {record.group_id}") for record in records}


@dataclass(kw_only=True, slots=True)
class Selection:
    """The state of one selection: which side every unit is on, and every image's role or reason for none."""

    records: dict[str, ImageRecord]
    unit: dict[str, str]
    rank: dict[str, int]
    by_type: dict[tuple[str, str], list[str]]
    side: dict[str, _Side] = field(default_factory=dict)
    roles: dict[str, Role] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    @classmethod
    def start(cls, records: Sequence[ImageRecord], *, seed: int) -> "Selection":
        """Ranks every image by a hash of the seed and its content; equal contents are ranked by image_id."""
        by_id = {record.image_id: record for record in sorted(records, key=lambda record: record.image_id)}
        if len(by_id) != len(records):
            raise DataError("two records have the same image_id; read the data set once")
        order = sorted(by_id, key=lambda image_id: (derive_seed(seed, "k_shot", by_id[image_id].sha256), image_id))
        by_type: dict[tuple[str, str], list[str]] = defaultdict(list)
        for image_id in order:
            by_type[by_id[image_id].category, by_id[image_id].defect_type].append(image_id)
        return cls(
            records=by_id,
            unit=_bind_units(list(by_id.values())),
            rank={image_id: place for place, image_id in enumerate(order)},
            by_type=dict(by_type),
        )

    def categories(self) -> list[str]:
        """Returns the categories of all images, in alphabetical order."""
        return sorted({category for category, _ in self.by_type})

    def on(self, image_id: str) -> _Side | None:
        """Returns the side of an image's unit, or None while it is open."""
        return self.side.get(self.unit[image_id])

    def normals(self, category: str) -> list[str]:
        """Returns the category's normal images in rank order."""
        return self.by_type.get((category, NORMAL_DEFECT_TYPE), [])

    def place_folder_normals(self) -> None:
        """Puts the units of normals on the side of their folder; a unit in both folders is an error."""
        first: dict[str, ImageRecord] = {}
        for record in self.records.values():
            if record.gt_label or (record.split == "train" and not self._has_test_normals(record.category)):
                continue
            unit = self.unit[record.image_id]
            if self.side.setdefault(unit, record.split) != record.split:
                other = first[unit].image_id
                raise DataError(
                    f"{other} ({first[unit].split}) and {record.image_id} ({record.split}) share their content or "
                    "group; normal images of train and test must be different parts"
                )
            first.setdefault(unit, record)

    def _has_test_normals(self, category: str) -> bool:
        return any(self.records[image_id].split == "test" for image_id in self.normals(category))

    def hold_out_normals(self, category: str, *, fraction: float, num_kept: int) -> None:
        """Where the folders have no test normals, moves whole units to the test side until the share is reached."""
        normals = self.normals(category)
        if not normals:
            raise DataError(f"category {category!r} has no normal images; the detector needs some")
        if self._has_test_normals(category):
            return
        wanted = max(1, round(fraction * len(normals)))
        open_ids = [image_id for image_id in normals if self.on(image_id) is None]
        moved = sum(self.on(image_id) == "test" for image_id in normals)
        for image_id in open_ids:
            if moved < wanted and self.on(image_id) is None:
                self.side[self.unit[image_id]] = "test"
                moved += sum(self.unit[other] == self.unit[image_id] for other in normals)
        for image_id in open_ids:
            self.side.setdefault(self.unit[image_id], "train")
        num_train = sum(self.on(image_id) == "train" for image_id in normals)
        if moved < 1 or num_train < num_kept:
            raise DataError(
                f"category {category!r}: {len(normals)} normal images in their groups leave {num_train} for training "
                f"and {moved} for the test; at least {num_kept} and 1 are needed"
            )

    def assign_normals(
        self, category: str, *, num_reference: int, max_normals: int, calibration_fraction: float, max_test: int
    ) -> None:
        """Gives the category's normals their roles."""
        train = [image_id for image_id in self.normals(category) if self.on(image_id) == "train"]
        if len(train) < num_reference + 1:
            raise DataError(
                f"category {category!r}: {len(train)} normal training images, num_reference={num_reference} and at "
                "least 1 for the detector are needed"
            )
        kept = self._limit(train, maximum=max_normals, setting="max_normals")
        if len(kept) < num_reference + 1:
            raise DataError(f"max_normals is {max_normals}; it must exceed num_reference={num_reference}, or be 0")
        rest = kept[num_reference:]
        num_calibration = 0 if calibration_fraction == 0 else max(1, round(calibration_fraction * len(rest)))
        if num_calibration >= len(rest) > 0:
            raise DataError(
                f"category {category!r}: calibration_fraction={calibration_fraction} of {len(rest)} normals leaves "
                "none for the detector; use a smaller fraction or more images"
            )
        self._give(kept[:num_reference], "reference")
        self._give(rest[:num_calibration], "calibration")
        self._give(rest[num_calibration:], "train")
        test = [image_id for image_id in self.normals(category) if self.on(image_id) == "test"]
        self._give(self._limit(test, maximum=max_test, setting="max_test_per_type"), "test")

    def choose_shots(self, category: str, *, k_shot: int) -> frozenset[str]:
        """Returns k training defects of each type, units already on the train side first, and puts them there."""
        chosen: set[str] = set()
        for defect_type in self._defect_types(category):
            images = self.by_type[category, defect_type]
            pool = [image_id for image_id in images if self.on(image_id) != "test"]
            if len(pool) < k_shot:
                raise DataError(
                    f"{category}/{defect_type}: {len(images)} images, of which {len(pool)} may be trained on; "
                    f"k_shot={k_shot} needs at least {k_shot}"
                )
            pool.sort(key=lambda image_id: (self.on(image_id) is None, self.rank[image_id]))
            chosen.update(pool[:k_shot])
            self.side.update({self.unit[image_id]: "train" for image_id in pool[:k_shot]})
        return frozenset(chosen)

    def assign_defects(self, category: str, *, shots: frozenset[str], num_validation: int, max_test: int) -> None:
        """Gives the category's defects their roles: the shots train, the last ranks validation, the rest test."""
        for defect_type in self._defect_types(category):
            images = self.by_type[category, defect_type]
            self._give([image_id for image_id in images if image_id in shots], "train")
            free = []
            for image_id in images:
                if image_id in shots:
                    continue
                if self.on(image_id) == "train":
                    self.reasons[image_id] = "its group is on the train side"
                else:
                    self.side[self.unit[image_id]] = "test"
                    free.append(image_id)
            if len(free) < num_validation + 1:
                raise DataError(
                    f"{category}/{defect_type}: {len(images)} images leave {len(free)} after training; "
                    f"num_validation_per_type={num_validation} and at least 1 for the test are needed"
                )
            num_test = len(free) - num_validation
            self._give(self._limit(free[:num_test], maximum=max_test, setting="max_test_per_type"), "test")
            self._give(free[num_test:], "validation")

    def _defect_types(self, category: str) -> list[str]:
        return sorted(kind for name, kind in self.by_type if name == category and kind != NORMAL_DEFECT_TYPE)

    def _limit(self, image_ids: list[str], *, maximum: int, setting: str) -> list[str]:
        if maximum == 0:
            return image_ids
        self.reasons.update(dict.fromkeys(image_ids[maximum:], f"beyond {setting}={maximum}"))
        return image_ids[:maximum]

    def _give(self, image_ids: Iterable[str], role: Role) -> None:
        self.roles.update(dict.fromkeys(image_ids, role))

    def entries(self) -> tuple[ManifestEntry, ...]:
        """Returns every image that got a role."""
        return tuple(
            ManifestEntry(
                image_id=image_id,
                sha256=record.sha256,
                role=self.roles[image_id],
                category=record.category,
                defect_type=record.defect_type,
                group_id=record.group_id,
            )
            for image_id, record in self.records.items()
            if image_id in self.roles
        )

    def left_out(self) -> tuple[LeftOut, ...]:
        """Returns every image that got none."""
        assert set(self.roles).isdisjoint(self.reasons)
        assert set(self.roles) | set(self.reasons) == set(self.records)
        return tuple(LeftOut(image_id=image_id, reason=self.reasons[image_id]) for image_id in sorted(self.reasons))
