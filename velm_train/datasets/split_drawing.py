"""Draws published splits from lists of images, without the images: class lists in, `SplitFile`s out."""

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from velm_train.core.records import ImageRecord
from velm_train.datasets.plans import make_plan, own_settings
from velm_train.datasets.protocol_settings import ProtocolSettings
from velm_train.datasets.roles import assign_defects, rest_of
from velm_train.datasets.selection import Selection
from velm_train.datasets.split_files import LEFT_OUT, Numbers, RoleNumbers, SplitFile
from velm_train.datasets.two_datasets import train_categories

K_SHOTS = (1, 2, 4)
SEEDS = (0, 1, 2, 3, 4)
NUM_CATEGORY_FOLDS = 4
NUM_TYPE_FOLDS = 3
TYPE_FOLD_SHOTS = 4

_SETTINGS = ProtocolSettings(
    k_shot=0,
    unseen_categories=(),
    num_reference=0,
    num_validation_per_type=0,
    max_normals=0,
    max_test_per_type=0,
    calibration_fraction=0.0,
    test_normal_fraction=0.5,
    multi_label="joint",
    fold=0,
    num_folds=2,
    train_dataset=None,
)
"""What all published splits share; what concerns training normals is not read."""


def draw_splits(lists: Mapping[str, Numbers]) -> Iterator[SplitFile]:
    """Draws every published split.

    Args:
        lists: data set -> its list of images; where there are two and more, cross_dataset in every direction.

    Raises:
        DataError: if a list has too few images.
    """
    records = {dataset: listed_records(dataset, listed) for dataset, listed in sorted(lists.items())}
    for dataset, own in records.items():
        yield from _draw_alone(dataset, own)
        for other in sorted(set(records) - {dataset}):
            settings = dataclasses.replace(_SETTINGS, train_dataset=other)
            both = [*own, *records[other]]
            yield draw_split(f"{dataset}/p4_from_{other}", both, protocol="cross_dataset", settings=settings, seed=0)


def _draw_alone(dataset: str, records: Sequence[ImageRecord]) -> Iterator[SplitFile]:
    """Draws the splits of one data set: P0, P1, P2, P3 and P5."""
    yield draw_split(f"{dataset}/p0", records, protocol="zero_shot", settings=_SETTINGS, seed=0)
    for seed in SEEDS:
        for k_shot in K_SHOTS:
            name, settings = f"{dataset}/p1_k{k_shot}_seed{seed}", dataclasses.replace(_SETTINGS, k_shot=k_shot)
            yield draw_split(name, records, protocol="k_shot", settings=settings, seed=seed)
        yield draw_split(f"{dataset}/p2_seed{seed}", records, protocol="half", settings=_SETTINGS, seed=seed)
    for fold in range(NUM_CATEGORY_FOLDS):
        settings = dataclasses.replace(_SETTINGS, fold=fold, num_folds=NUM_CATEGORY_FOLDS)
        yield draw_split(f"{dataset}/p3_fold{fold}", records, protocol="leave_category_out", settings=settings, seed=0)
    for fold in range(NUM_TYPE_FOLDS):
        settings = dataclasses.replace(_SETTINGS, k_shot=TYPE_FOLD_SHOTS, fold=fold, num_folds=NUM_TYPE_FOLDS)
        yield draw_split(f"{dataset}/p5_fold{fold}", records, protocol="leave_type_out", settings=settings, seed=0)


def draw_split(
    name: str, records: Sequence[ImageRecord], *, protocol: str, settings: ProtocolSettings, seed: int
) -> SplitFile:
    """Draws one split by the rules of its protocol; images are ranked by a hash of seed and image id.

    Args:
        name: of the split.
        records: of `listed_records`, of every data set of the split.
        protocol: a key of PROTOCOLS.
        settings: of the protocol.
        seed: root seed of the selection.

    Raises:
        DataError: if a list has too few images.
    """
    selection = Selection.start(records, multi_label=settings.multi_label, seed=seed)
    seen = frozenset[str]()
    if protocol == "cross_dataset":
        seen = train_categories(records, train_dataset=settings.train_dataset)
    plan = make_plan(protocol, selection.types(), settings, seen=seen)
    selection.place_folder_normals()
    for category in selection.categories():
        selection.assign_test_normals(category, rest=rest_of(category, plan, settings))
    assign_defects(selection, plan, settings)
    return SplitFile(
        name=name,
        protocol=protocol,
        seed=seed,
        settings=own_settings(protocol, settings),
        datasets=tuple(sorted({record.dataset for record in records})),
        unseen_categories=tuple(sorted(plan.unseen)),
        unknown_types=plan.unknown,
        images=_images(selection),
    )


def listed_records(dataset: str, listed: Numbers) -> list[ImageRecord]:
    """Makes a record of every listed image; an image of which nothing else is known has its id for content."""
    places = [(category, kind, number) for category, body in listed.items() for kind in body for number in body[kind]]
    return [
        ImageRecord(
            image_id=(image_id := f"{dataset}/{category}/{kind}/{number}"),
            dataset=dataset,
            category=category,
            split="test",
            defect_type=kind,
            image_path=Path(str(number)),
            gt_mask_paths=(),
            sha256=hashlib.sha256(image_id.encode()).hexdigest(),
            group_id=image_id,
            size_hw=(1, 1),
        )
        for category, kind, number in places
    ]


def _images(selection: Selection) -> RoleNumbers:
    found: defaultdict[str, defaultdict[str, defaultdict[str, list[int]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for image_id, record in selection.records.items():
        role = selection.roles[image_id] if image_id in selection.roles else LEFT_OUT
        found[record.category][record.defect_type][role].append(int(record.image_path.name))
    return {
        category: {
            kind: {role: tuple(sorted(numbers)) for role, numbers in roles.items()} for kind, roles in body.items()
        }
        for category, body in found.items()
    }
