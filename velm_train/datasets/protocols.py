"""Evaluation protocols P0 to P5: records in, a leak-free `SplitManifest` out; independent of the records' order."""

import logging
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from velm_train.core.records import ImageRecord
from velm_train.datasets.manifests import SplitManifest, assert_no_leak
from velm_train.datasets.plans import make_plan, own_settings
from velm_train.datasets.protocol_settings import ProtocolSettings
from velm_train.datasets.roles import assign_defects, assign_normals, place_normals
from velm_train.datasets.selection import Selection
from velm_train.datasets.two_datasets import require_two_datasets, train_categories

__all__ = [
    "PROTOCOLS",
    "Protocol",
    "ProtocolSettings",
    "SplitManifest",
    "assert_no_leak",
    "cross_dataset_split",
    "half_split",
    "k_shot_split",
    "leave_category_out_split",
    "leave_type_out_split",
    "zero_shot_split",
]

logger = logging.getLogger(__name__)


def zero_shot_split(records: Sequence[ImageRecord], settings: ProtocolSettings, *, seed: int) -> SplitManifest:
    """P0: no defect is trained on, every defect is for testing; normals fit and calibrate the gates.

    As in every protocol, a defect on the same part as a training normal is left out.

    Raises:
        DataError: if a category has too few images.
    """
    return _select(records, settings, protocol="zero_shot", name="zero_shot", seed=seed)


def k_shot_split(records: Sequence[ImageRecord], settings: ProtocolSettings, *, seed: int) -> SplitManifest:
    """P1: k labelled defects of every type of every seen category may be learned from, all others are for testing.

    Images that share content or group are kept on one side. With the same seed, the defects of a smaller k are among
    those of a larger one, and where no group spans several types the validation images are the same.

    Raises:
        DataError: if a category or type has too few images.
    """
    name = f"k_shot_{settings.k_shot}"
    return _select(records, settings, protocol="k_shot", name=name, seed=seed)


def half_split(records: Sequence[ImageRecord], settings: ProtocolSettings, *, seed: int) -> SplitManifest:
    """P2: of every type of every seen category half, rounded down, is trained on and the rest tested.

    Images that share content or group stay together, so that a half is as near as they allow.

    Raises:
        DataError: if a category or type has too few images.
    """
    return _select(records, settings, protocol="half", name="half", seed=seed)


def leave_category_out_split(records: Sequence[ImageRecord], settings: ProtocolSettings, *, seed: int) -> SplitManifest:
    """P3: the categories of one fold are unseen and alone are tested.

    Which fold a category is in depends on the categories' names only. Of the other categories `k_shot` defects of each
    type are trained on, all if it is 0; their further defects and their test normals are left out.

    Raises:
        DataError: if there are fewer categories than folds, or a category or type has too few images.
    """
    name = f"leave_category_out_{settings.fold}_of_{settings.num_folds}"
    return _select(records, settings, protocol="leave_category_out", name=name, seed=seed)


def cross_dataset_split(records: Sequence[ImageRecord], settings: ProtocolSettings, *, seed: int) -> SplitManifest:
    """P4: one data set is trained on, the other tested.

    Of the training set `k_shot` defects of each type are trained on, all if it is 0; none of its images are tested.
    Every defect of the other set is tested; its normals fit and calibrate its gates.

    Args:
        records: images of two data sets, told apart by `ImageRecord.dataset`.
        settings: `train_dataset` names the one to train on.
        seed: root seed of the selection.

    Raises:
        DataError: if there are not two data sets, they share a category name or an image, or a category or type has
            too few images.
    """
    return _select(
        require_two_datasets(records),
        settings,
        protocol="cross_dataset",
        name=f"cross_dataset_from_{settings.train_dataset}",
        seed=seed,
    )


def leave_type_out_split(records: Sequence[ImageRecord], settings: ProtocolSettings, *, seed: int) -> SplitManifest:
    """P5: in every seen category the types of one fold are unknown: never trained on, all tested.

    Which types these are depends on the names only; `SplitManifest.unknown_types` says it. Of the other types `k_shot`
    defects are trained on and the rest tested.

    Raises:
        DataError: if no category has two types, or a category or type has too few images.
    """
    name = f"leave_type_out_{settings.fold}_of_{settings.num_folds}_k_{settings.k_shot}"
    return _select(records, settings, protocol="leave_type_out", name=name, seed=seed)


Protocol = Callable[..., SplitManifest]
"""Called as `protocol(records, settings, seed=seed)`."""

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        "zero_shot": zero_shot_split,
        "k_shot": k_shot_split,
        "half": half_split,
        "leave_category_out": leave_category_out_split,
        "cross_dataset": cross_dataset_split,
        "leave_type_out": leave_type_out_split,
    }
)
"""`protocol.name` -> what gives the images their roles."""


def _seen_dataset(records: Sequence[ImageRecord], settings: ProtocolSettings, *, protocol: str) -> frozenset[str]:
    if protocol != "cross_dataset":
        return frozenset()
    return train_categories(records, train_dataset=settings.train_dataset)


def _select(
    records: Sequence[ImageRecord],
    settings: ProtocolSettings,
    *,
    protocol: str,
    name: str,
    seed: int,
) -> SplitManifest:
    selection = Selection.start(records, multi_label=settings.multi_label, seed=seed)
    plan = make_plan(protocol, selection.types(), settings, seen=_seen_dataset(records, settings, protocol=protocol))
    place_normals(selection, plan, settings)
    assign_normals(selection, plan, settings)
    assign_defects(selection, plan, settings)
    manifest = SplitManifest(
        protocol=name,
        seed=seed,
        settings=own_settings(protocol, settings) | settings.common(),
        entries=selection.entries(),
        left_out=selection.left_out(),
        unseen_categories=tuple(sorted(plan.unseen)),
        unknown_types=plan.unknown,
    )
    duplicates = assert_no_leak(manifest)
    logger.info(
        "%s: %d images with a role, %d left out, %d contents that occur more than once on their side",
        name,
        len(manifest.entries),
        len(manifest.left_out),
        len(duplicates),
    )
    return manifest
