"""Evaluation protocols: records in, a leak-free `SplitManifest` out; deterministic and independent of list order."""

import logging
from collections.abc import Sequence
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
    _check_settings(k_shot=k_shot, calibration_fraction=calibration_fraction, test_normal_fraction=test_normal_fraction)
    categories = sorted({record.category for record in records})
    for name in unseen_categories:
        if name not in categories:
            raise DataError(f"unseen category {name!r} has no images{nearest(name, categories)}; found: {categories}")
    settings = {
        "k_shot": k_shot,
        "unseen_categories": sorted(unseen_categories),
        "num_reference": num_reference,
        "num_validation_per_type": num_validation_per_type,
        "max_normals": max_normals,
        "max_test_per_type": max_test_per_type,
        "calibration_fraction": calibration_fraction,
        "test_normal_fraction": test_normal_fraction,
    }
    selection = Selection.start(records, seed=seed)
    selection.place_folder_normals()
    for category in categories:
        selection.hold_out_normals(category, fraction=test_normal_fraction, num_kept=num_reference + 1)
        selection.assign_normals(
            category,
            num_reference=num_reference,
            max_normals=max_normals,
            calibration_fraction=calibration_fraction,
            max_test=max_test_per_type,
        )
    shots = {
        name: frozenset() if name in unseen_categories else selection.choose_shots(name, k_shot=k_shot)
        for name in categories
    }
    for name in categories:
        num_validation = 0 if name in unseen_categories else num_validation_per_type
        selection.assign_defects(name, shots=shots[name], num_validation=num_validation, max_test=max_test_per_type)
    return _audited(selection, protocol=f"k_shot_{k_shot}", settings=settings, seed=seed)


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


def _check_settings(*, k_shot: int, calibration_fraction: float, test_normal_fraction: float) -> None:
    if k_shot < 0:
        raise DataError(f"k_shot is {k_shot}; it must be at least 0")
    if not 0.0 <= calibration_fraction < 1.0:
        raise DataError(f"calibration_fraction is {calibration_fraction}; it must lie in [0, 1)")
    if not 0.0 < test_normal_fraction < 1.0:
        raise DataError(f"test_normal_fraction is {test_normal_fraction}; it must lie in (0, 1)")
