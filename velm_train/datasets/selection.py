"""The selection behind a protocol: records in, every image's role or the reason why it has none out."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from velm_train.core.errors import DataError, LeakError
from velm_train.core.records import NORMAL_DEFECT_TYPE, ImageRecord, Role
from velm_train.core.seeding import derive_seed
from velm_train.datasets.manifests import LeftOut, ManifestEntry
from velm_train.datasets.protocol_settings import MultiLabel, Rest, TypeKey
from velm_train.datasets.units import bind_units

_Side = Literal["train", "test"]


@dataclass(kw_only=True, slots=True)
class Selection:
    """The state of one selection: which side every unit is on, and every image's role or reason for none."""

    records: dict[str, ImageRecord]
    unit: dict[str, str]
    rank: dict[str, int]
    by_type: dict[TypeKey, list[str]]
    side: dict[str, _Side] = field(default_factory=dict)
    roles: dict[str, Role] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    @classmethod
    def start(cls, records: Sequence[ImageRecord], *, multi_label: MultiLabel, seed: int) -> "Selection":
        """Ranks every image by a hash of the seed and its content; equal contents are ranked by image_id."""
        by_id = {record.image_id: record for record in sorted(records, key=lambda record: record.image_id)}
        if len(by_id) != len(records):
            raise DataError("two records have the same image_id; read the data set once")
        order = sorted(by_id, key=lambda image_id: (derive_seed(seed, "k_shot", by_id[image_id].sha256), image_id))
        several = {image_id for image_id in order if len(by_id[image_id].defect_types) > 1}
        dropped = several if multi_label == "leave_out" else set()
        by_type: dict[TypeKey, list[str]] = defaultdict(list)
        for image_id in order:
            if image_id not in dropped:
                by_type[by_id[image_id].category, by_id[image_id].defect_type].append(image_id)
        return cls(
            records=by_id,
            unit=bind_units(list(by_id.values())),
            rank={image_id: place for place, image_id in enumerate(order)},
            by_type=dict(by_type),
            reasons={one: f"shows several types: {', '.join(by_id[one].defect_types)}" for one in sorted(dropped)},
        )

    def categories(self) -> list[str]:
        """Returns the categories of all images, in alphabetical order."""
        return sorted({record.category for record in self.records.values()})

    def types(self) -> dict[str, list[str]]:
        """Returns category -> its defect types, both in alphabetical order; those of left-out images excepted."""
        return {
            category: sorted(kind for name, kind in self.by_type if name == category and kind != NORMAL_DEFECT_TYPE)
            for category in self.categories()
        }

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
                raise LeakError(
                    f"{other} ({first[unit].split}) and {record.image_id} ({record.split}) share their content or "
                    "group; normal images of train and test must be different parts"
                )
            first.setdefault(unit, record)

    def _has_test_normals(self, category: str) -> bool:
        return any(self.records[image_id].split == "test" for image_id in self.normals(category))

    def hold_out_normals(self, category: str, *, fraction: float, num_kept: int) -> None:
        """Where the folders have no test normals, moves whole units to the test side until the share is reached."""
        normals = self.normals(category)
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

    def keep_normals(self, category: str) -> None:
        """Puts what is still open of the category's normals on the train side."""
        self.put_on_train_side(self.normals(category))

    def assign_normals(
        self, category: str, *, num_reference: int, max_normals: int, calibration_fraction: float, rest: Rest
    ) -> None:
        """Gives the category's normals their roles: those on the test side as `rest` says."""
        train = [image_id for image_id in self.normals(category) if self.on(image_id) == "train"]
        if len(train) < num_reference + 1:
            raise DataError(
                f"category {category!r}: {len(train)} normal training images, num_reference={num_reference} and at "
                "least 1 for the detector are needed"
            )
        kept = self._limit(train, maximum=max_normals, setting="max_normals")
        if len(kept) < num_reference + 1:
            raise DataError(f"max_normals is {max_normals}; it must exceed num_reference={num_reference}, or be 0")
        further = kept[num_reference:]
        num_calibration = 0 if calibration_fraction == 0 else max(1, round(calibration_fraction * len(further)))
        if num_calibration >= len(further) > 0:
            raise DataError(
                f"category {category!r}: calibration_fraction={calibration_fraction} of {len(further)} normals leaves "
                "none for the detector; use a smaller fraction or more images"
            )
        self.give(kept[:num_reference], "reference")
        self.give(further[:num_calibration], "calibration")
        self.give(further[num_calibration:], "train")
        self.assign_test_normals(category, rest=rest)

    def assign_test_normals(self, category: str, *, rest: Rest) -> None:
        """Gives the normals on the test side their roles as `rest` says."""
        self.give_rest([image_id for image_id in self.normals(category) if self.on(image_id) == "test"], rest)

    def keep_for_test(self, category: str) -> None:
        """Puts what is still open of the category's defects on the test side."""
        for defect_type in self.types()[category]:
            for image_id in self.by_type[category, defect_type]:
                self.side.setdefault(self.unit[image_id], "test")

    def put_on_train_side(self, image_ids: Iterable[str]) -> None:
        """Puts what is still open of these images' units on the train side."""
        for image_id in image_ids:
            self.side.setdefault(self.unit[image_id], "train")

    def choose_shots(self, wanted: Mapping[TypeKey, int]) -> frozenset[str]:
        """Returns so many training defects of each type and puts their units on the train side.

        One of each type in turn, units that normals or another type put there first: what is chosen for fewer shots
        is part of what is chosen for more, whatever the units join.

        Raises:
            DataError: naming the category, the type and its numbers if there are too few.
        """
        pools = {key: [one for one in self.by_type[key] if self.on(one) != "test"] for key in sorted(wanted)}
        for (category, defect_type), pool in pools.items():
            num_wanted = wanted[category, defect_type]
            if len(pool) < num_wanted:
                num_images = len(self.by_type[category, defect_type])
                raise DataError(
                    f"{category}/{defect_type}: {num_images} images, of which {len(pool)} may be trained on; "
                    f"k_shot={num_wanted} needs at least {num_wanted}"
                )
        chosen: set[str] = set()
        placed_by: dict[str, TypeKey] = {}
        for turn in range(max(wanted.values(), default=0)):
            for key in (key for key in pools if turn < wanted[key]):
                best = min(
                    (image_id for image_id in pools[key] if image_id not in chosen),
                    key=lambda one: (not self._placed_by_others(one, key, placed_by), self.rank[one]),
                )
                chosen.add(best)
                if self.on(best) is None:
                    self.side[self.unit[best]] = "train"
                    placed_by[self.unit[best]] = key
        return frozenset(chosen)

    def _placed_by_others(self, image_id: str, key: TypeKey, placed_by: Mapping[str, TypeKey]) -> bool:
        """True if normals or another type put the image's unit on the train side."""
        return self.on(image_id) == "train" and placed_by.get(self.unit[image_id]) != key

    def choose_halves(self, types: Iterable[TypeKey]) -> frozenset[str]:
        """Puts whole units on the train side until it has half of each type, rounded down; returns those images.

        A unit goes to the side that leaves the type nearer to its half, to the test if both do alike; units that other
        types have placed stay.
        """
        keys = sorted(types)
        for key in keys:
            images = self.by_type[key]
            for image_id in images:
                if self.on(image_id) is None:
                    lacking = len(images) // 2 - sum(self.on(other) == "train" for other in images)
                    size = sum(self.unit[other] == self.unit[image_id] for other in images)
                    self.side[self.unit[image_id]] = "train" if 2 * lacking > size else "test"
        return self._trained(keys)

    def choose_all(self, types: Iterable[TypeKey], *, num_validation: int) -> frozenset[str]:
        """Puts the last ranks of each type on the test side for validation and all others on the train side."""
        keys = sorted(types)
        for key in keys:
            held_out = sum(self.on(image_id) == "test" for image_id in self.by_type[key])
            for image_id in reversed(self.by_type[key]):
                if held_out < num_validation and self.on(image_id) is None:
                    self.side[self.unit[image_id]] = "test"
                    held_out += sum(self.unit[other] == self.unit[image_id] for other in self.by_type[key])
        for key in keys:
            self.put_on_train_side(self.by_type[key])
        return self._trained(keys)

    def _trained(self, keys: Iterable[TypeKey]) -> frozenset[str]:
        """Returns the types' images on the train side; a type without any is an error."""
        trained = {key: [one for one in self.by_type[key] if self.on(one) == "train"] for key in keys}
        for (category, defect_type), images in trained.items():
            if not images:
                num_images = len(self.by_type[category, defect_type])
                raise DataError(
                    f"{category}/{defect_type}: {num_images} images in their groups leave none to train on; add "
                    "images of other parts, or leave the type out"
                )
        return frozenset(image_id for images in trained.values() for image_id in images)

    def assign_type(self, key: TypeKey, *, shots: frozenset[str], num_validation: int, rest: Rest) -> None:
        """Gives one type's images their roles: the shots train, the last ranks validation, the others as `rest` says.

        Raises:
            DataError: if too few are left for validation, or none for a test that is wanted.
        """
        images = self.by_type[key]
        self.give([image_id for image_id in images if image_id in shots], "train")
        free = []
        for image_id in images:
            if image_id in shots:
                continue
            if self.on(image_id) == "train":
                self.reasons[image_id] = "its group is on the train side"
            else:
                self.side[self.unit[image_id]] = "test"
                free.append(image_id)
        num_test, num_needed = len(free) - num_validation, int(rest.tested)
        if num_test < num_needed:
            raise DataError(
                f"{key[0]}/{key[1]}: {len(images)} images leave {len(free)} after training; "
                f"num_validation_per_type={num_validation} and at least {num_needed} for the test are needed"
            )
        self.give_rest(free[:num_test], rest)
        self.give(free[num_test:], "validation")

    def give_rest(self, image_ids: list[str], rest: Rest) -> None:
        """Makes images of the test side test images, or leaves them out, as `rest` says."""
        if not rest.tested:
            self.reasons.update(dict.fromkeys(image_ids, rest.reason))
            return
        self.give(self._limit(image_ids, maximum=rest.max_test, setting="max_test_per_type"), "test")

    def _limit(self, image_ids: list[str], *, maximum: int, setting: str) -> list[str]:
        if maximum == 0:
            return image_ids
        self.reasons.update(dict.fromkeys(image_ids[maximum:], f"beyond {setting}={maximum}"))
        return image_ids[:maximum]

    def give(self, image_ids: Iterable[str], role: Role) -> None:
        """Gives every image one role."""
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
