"""A published split applied to the user's files: records and a split file in, a `SplitManifest` out, pinned by hash."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from velm_train.core.errors import DataError
from velm_train.core.hashing import sha256_json
from velm_train.core.records import NORMAL_DEFECT_TYPE, ImageRecord
from velm_train.datasets.file_differences import FilePlace, PlacedFile, compare_files, number_of, refuse_differences
from velm_train.datasets.manifests import ManifestEntry, SplitManifest, assert_no_leak
from velm_train.datasets.protocol_settings import ProtocolSettings, Rest
from velm_train.datasets.reading import nearest
from velm_train.datasets.roles import UNTESTED_REASON
from velm_train.datasets.selection import Selection
from velm_train.datasets.split_files import SplitFile, read_split
from velm_train.datasets.two_datasets import require_two_datasets

logger = logging.getLogger(__name__)

_HASH_LENGTH = 12


def published_manifest(
    records: Sequence[ImageRecord],
    settings: ProtocolSettings,
    *,
    split_file: Path,
    categories: Sequence[str],
    pins: Path,
) -> SplitManifest:
    """Gives the user's images the roles of a published split.

    Images are found by category, class and number, whatever folder and file ending they have. Which of the normals of
    split "train" are references, calibrate or train follows from the settings, as in every protocol, with the seed of
    the split file. At first use the hashes of all files are pinned; later uses are compared with them.

    Args:
        records: images of the split's data sets.
        settings: of which `num_reference`, `max_normals`, `max_test_per_type` and `calibration_fraction` are read.
        split_file: a file that `split_path` returned.
        categories: the part of the split that is wanted; empty for all of it.
        pins: folder for the pinned manifests.

    Raises:
        DataError: if images are missing, too many, of another class or changed, naming all of them, or the settings
            contradict the split.
        ArtifactError: if the pinned manifest was edited.
    """
    split = read_split(split_file)
    _refuse_contradictions(split, settings)
    if split.protocol == "cross_dataset":
        records = require_two_datasets(records)
    wanted = _wanted(split, categories)
    _require_listed(split, records, wanted=wanted)
    name = f"{split.name}-{split.sha256[:_HASH_LENGTH]}"
    if len(wanted) < len(split.images):
        name += f"-{sha256_json(wanted)[:_HASH_LENGTH]}"
    pin = pins / f"{name}.json"
    report = pin.with_suffix(".differences.txt")
    refuse_differences(compare_files(_listed(split, wanted), _tested(records)), name=split.name, report=report)
    everything = dataclasses.replace(
        settings, num_reference=0, max_normals=0, max_test_per_type=0, calibration_fraction=0.0
    )
    _compare_with_pin(_apply(split, records, everything), records, pin=pin, report=report)
    return _apply(split, records, settings)


def _refuse_contradictions(split: SplitFile, settings: ProtocolSettings) -> None:
    if settings.num_validation_per_type:
        raise DataError(
            f"num_validation_per_type is {settings.num_validation_per_type}, but the published split {split.name!r} "
            "has no validation images; set it to 0"
        )
    if settings.unseen_categories:
        raise DataError(
            f"unseen_categories are {sorted(settings.unseen_categories)}, but the published split {split.name!r} says "
            "itself what is unseen; leave them empty"
        )


def _wanted(split: SplitFile, categories: Sequence[str]) -> list[str]:
    known = sorted(split.images)
    for category in categories:
        if category not in split.images:
            raise DataError(
                f"category {category!r} is not in the published split {split.name!r}{nearest(category, known)}; it "
                f"has: {', '.join(known)}"
            )
    return sorted(set(categories)) or known


def _require_listed(split: SplitFile, records: Sequence[ImageRecord], *, wanted: Sequence[str]) -> None:
    present = sorted({record.category for record in records})
    strange = [f"{name!r}{nearest(name, split.images)}" for name in present if name not in wanted]
    absent = [name for name in wanted if name not in present]
    problems = [f"no category named {', '.join(strange)}"] if strange else []
    problems += [f"categories that are not on disk: {', '.join(absent)}"] if absent else []
    if problems:
        raise DataError(f"published split {split.name!r} does not fit the images: it has " + "; and ".join(problems))


def _listed(split: SplitFile, wanted: Sequence[str]) -> list[PlacedFile]:
    return [
        PlacedFile(place=(category, kind, "test", str(number)), sha256=None, name=f"{category}/{kind}/{number:03d}")
        for category in wanted
        for kind, roles in split.images[category].items()
        for numbers in roles.values()
        for number in numbers
    ]


def _tested(records: Sequence[ImageRecord]) -> list[PlacedFile]:
    """Returns what a split file lists: defects, and normals of split "test"."""
    return [
        PlacedFile(place=_place(record), sha256=None, name=record.image_id)
        for record in records
        if record.gt_label or record.split == "test"
    ]


def _place(record: ImageRecord) -> FilePlace:
    side = "test" if record.gt_label else record.split
    return (record.category, record.defect_type, side, number_of(record.image_path.stem))


def _apply(split: SplitFile, records: Sequence[ImageRecord], settings: ProtocolSettings) -> SplitManifest:
    selection = Selection.start(records, multi_label="joint", seed=split.seed)
    selection.place_folder_normals()
    types, rests = selection.types(), {}
    for category in types:
        tested = any("test" in roles for roles in split.images[category].values())
        rests[category] = Rest(tested=tested, max_test=settings.max_test_per_type, reason=UNTESTED_REASON)
        selection.keep_normals(category)
        selection.assign_normals(
            category,
            num_reference=settings.num_reference,
            max_normals=settings.max_normals,
            calibration_fraction=settings.calibration_fraction,
            rest=rests[category],
        )
    trained = _trained_places(split)
    shots = frozenset(image_id for image_id, record in selection.records.items() if _place(record) in trained)
    selection.put_on_train_side(shots)
    for category, kinds in types.items():
        for kind in kinds:
            selection.assign_type((category, kind), shots=shots, num_validation=0, rest=rests[category])
    return _manifest(split, selection, settings)


def _trained_places(split: SplitFile) -> set[FilePlace]:
    return {
        (category, kind, "test", str(number))
        for category, body in split.images.items()
        for kind, roles in body.items()
        for number in roles.get("train", ())
    }


def _manifest(split: SplitFile, selection: Selection, settings: ProtocolSettings) -> SplitManifest:
    present = selection.types()
    manifest = SplitManifest(
        protocol=split.name,
        seed=split.seed,
        settings={
            "split_file": split.sha256,
            "num_reference": settings.num_reference,
            "max_normals": settings.max_normals,
            "max_test_per_type": settings.max_test_per_type,
            "calibration_fraction": settings.calibration_fraction,
        }
        | dict(split.settings),
        entries=selection.entries(),
        left_out=selection.left_out(),
        unseen_categories=tuple(name for name in split.unseen_categories if name in present),
        unknown_types={name: types for name, types in split.unknown_types.items() if name in present},
    )
    duplicates = assert_no_leak(manifest)
    logger.info(
        "%s: %d images with a role, %d left out, %d contents that occur more than once on their side",
        split.name,
        len(manifest.entries),
        len(manifest.left_out),
        len(duplicates),
    )
    return manifest


def _compare_with_pin(everything: SplitManifest, records: Sequence[ImageRecord], *, pin: Path, report: Path) -> None:
    """Pins the split at first use, and compares the files with the pinned ones afterwards.

    Raises:
        ArtifactError: if the pinned manifest was edited.
        DataError: if the files differ from the pinned ones.
    """
    if not pin.exists():
        everything.save(pin)
        logger.info("%s: hashes of %d files are pinned in %s", everything.protocol, len(everything.entries), pin)
        return
    expected = [_pinned(entry) for entry in SplitManifest.load(pin).entries]
    compared = {file.place for file in expected} | {_pinned(entry).place for entry in everything.entries}
    found = [
        PlacedFile(place=_place(record), sha256=record.sha256, name=record.image_id)
        for record in records
        if _place(record) in compared
    ]
    refuse_differences(compare_files(expected, found), name=everything.protocol, report=report)


def _pinned(entry: ManifestEntry) -> PlacedFile:
    """Returns the file of an entry of a manifest without references, in which training normals have role train."""
    trains_gate = entry.defect_type == NORMAL_DEFECT_TYPE and entry.role == "train"
    number = number_of(PurePosixPath(entry.image_id).stem)
    place = (entry.category, entry.defect_type, "train" if trains_gate else "test", number)
    return PlacedFile(place=place, sha256=entry.sha256, name=entry.image_id)
