"""Evaluation protocols: records in, a leak-free `SplitManifest` out; deterministic and independent of list order."""

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from velm_train.core.errors import DataError
from velm_train.core.records import ImageRecord
from velm_train.datasets.manifests import SplitManifest, assert_no_leak
from velm_train.datasets.reading import nearest
from velm_train.datasets.selection import Selection

__all__ = ["SplitManifest", "assert_no_leak", "k_shot_manifest"]

logger = logging.getLogger(__name__)


def k_shot_manifest(
    records: Sequence[ImageRecord],
    *,
    k_shot: int,
    unseen_categories: Sequence[str],
    num_reference: int,
    num_validation_per_type: int,
    max_normals: int,
    max_test_per_type: int,
    calibration_fraction: float,
    test_normal_fraction: float,
    seed: int,
) -> SplitManifest:
    """Makes the k-shot split: k labelled defects of every type of every seen category may be learned from.

    Images that share content or group are kept on one side. With the same seed, the defects of a smaller k are
    among those of a larger one, and the validation images are the same.

    Args:
        records: images of one data set.
        k_shot: training defects of each type; 0 for none.
        unseen_categories: categories whose defects are all for testing.
        num_reference: normals of split "train", per category, shown to the model as references.
        num_validation_per_type: defects of each type of a seen category with role validation.
        max_normals: limit of reference, calibration and training normals together, per category; 0 for none.
        max_test_per_type: limit of test images of each type, "good" included, per category; 0 for none.
        calibration_fraction: share in [0, 1) of the remaining normals that is held out to calibrate the gate;
            0 if it calibrates by leave-one-out.
        test_normal_fraction: share in (0, 1) of the normals that becomes test, only in categories that have no
            normals of split "test".
        seed: root seed of the selection.

    Raises:
        DataError: if an argument is out of range, or a category or type has too few images.
    """
    settings = _Settings(
        k_shot=k_shot,
        unseen_categories=sorted(unseen_categories),
        num_reference=num_reference,
        num_validation_per_type=num_validation_per_type,
        max_normals=max_normals,
        max_test_per_type=max_test_per_type,
        calibration_fraction=calibration_fraction,
        test_normal_fraction=test_normal_fraction,
    )
    selection = Selection.start(records, seed=seed)
    _assign_normals(selection, settings)
    _assign_defects(selection, settings)
    return _audited(selection, protocol=f"k_shot_{k_shot}", settings=dataclasses.asdict(settings), seed=seed)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Settings:
    """The arguments of `k_shot_manifest` that say how to select, as they are written into the manifest."""

    k_shot: int
    unseen_categories: list[str]
    num_reference: int
    num_validation_per_type: int
    max_normals: int
    max_test_per_type: int
    calibration_fraction: float
    test_normal_fraction: float

    def __post_init__(self) -> None:
        if self.k_shot < 0:
            raise DataError(f"k_shot is {self.k_shot}; it must be at least 0")
        if not 0.0 <= self.calibration_fraction < 1.0:
            raise DataError(f"calibration_fraction is {self.calibration_fraction}; it must lie in [0, 1)")
        if not 0.0 < self.test_normal_fraction < 1.0:
            raise DataError(f"test_normal_fraction is {self.test_normal_fraction}; it must lie in (0, 1)")


def _assign_normals(selection: Selection, settings: _Settings) -> None:
    selection.place_folder_normals()
    for category in selection.categories():
        selection.hold_out_normals(
            category, fraction=settings.test_normal_fraction, num_kept=settings.num_reference + 1
        )
        selection.assign_normals(
            category,
            num_reference=settings.num_reference,
            max_normals=settings.max_normals,
            calibration_fraction=settings.calibration_fraction,
            max_test=settings.max_test_per_type,
        )


def _assign_defects(selection: Selection, settings: _Settings) -> None:
    """Chooses the shots of every seen category first: they decide on which side their groups are."""
    categories, unseen = selection.categories(), settings.unseen_categories
    for name in unseen:
        if name not in categories:
            raise DataError(f"unseen category {name!r} has no images{nearest(name, categories)}; found: {categories}")
    shots = {
        name: frozenset() if name in unseen else selection.choose_shots(name, k_shot=settings.k_shot)
        for name in categories
    }
    for name in categories:
        num_validation = 0 if name in unseen else settings.num_validation_per_type
        selection.assign_defects(
            name, shots=shots[name], num_validation=num_validation, max_test=settings.max_test_per_type
        )


def _audited(selection: Selection, *, protocol: str, settings: dict[str, Any], seed: int) -> SplitManifest:
    manifest = SplitManifest(
        protocol=protocol, seed=seed, settings=settings, entries=selection.entries(), left_out=selection.left_out()
    )
    duplicates = assert_no_leak(manifest)
    logger.info(
        "%s: %d images with a role, %d left out, %d contents that occur more than once on their side",
        protocol,
        len(manifest.entries),
        len(manifest.left_out),
        len(duplicates),
    )
    return manifest
