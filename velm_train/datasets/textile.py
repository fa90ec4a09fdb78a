"""Reads the published textile set: `images/{nominal,local,global}/*.jpg` in, `ImageRecord`s of one category out."""

import logging
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from velm_train.core.errors import DataError
from velm_train.core.progress import Progress
from velm_train.core.records import NORMAL_DEFECT_TYPE, ImageRecord
from velm_train.datasets.generic import split_of
from velm_train.datasets.reading import list_images, make_record

logger = logging.getLogger(__name__)

TEXTILE = "textile"
"""Name of the data set and of its only category."""

TEXTILE_FOLDERS: Mapping[str, str] = MappingProxyType(
    {"nominal": NORMAL_DEFECT_TYPE, "local": "local", "global": "global"}
)
"""Folder -> defect type."""


def read_textile(root: Path, *, progress: Progress) -> list[ImageRecord]:
    """Reads the set, whose images were simulated and have labels but no masks and no split.

    Args:
        root: folder that holds `images/nominal`, `images/local` and `images/global`.
        progress: receives one unit an image.

    Returns:
        Records sorted by image_id; normals have split "train", defects "test".

    Raises:
        DataError: if one of the folders holds no images or an image cannot be read.
    """
    found: list[tuple[Path, str]] = []
    for folder, defect_type in TEXTILE_FOLDERS.items():
        images = list_images(root / "images" / folder)
        if not images:
            raise DataError(f"textile set: no images in {root / 'images' / folder}; fetch the textile_images asset")
        found += [(path, defect_type) for path in images]
    records: list[ImageRecord] = []
    with progress.stage(f"reading {TEXTILE}", total=len(found)) as advance:
        for path, defect_type in found:
            records.append(
                make_record(
                    path,
                    dataset=TEXTILE,
                    category=TEXTILE,
                    relative_path=f"{path.parent.name}/{path.name}",
                    split=split_of(defect_type),
                    defect_type=defect_type,
                    gt_mask_path=None,
                    group_id=None,
                )
            )
            advance(1)
    logger.info("%s: %d images in %s", TEXTILE, len(records), root)
    return sorted(records, key=lambda record: record.image_id)
