"""Records in; a seeded choice of small pictures of every category and type out, masks outlined, within a size limit."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from velm_train.core.errors import DataError
from velm_train.core.images import read_gt_masks, read_rgb
from velm_train.core.progress import Progress
from velm_train.core.records import ImageRecord
from velm_train.core.seeding import generator
from velm_train.core.shapes import BoolMap
from velm_train.reporting.figures import jpeg_data_uri, outlined_thumbnail
from velm_train.reporting.preview_content import Thumbnail

THUMBNAIL_PX = 224
"""Longer side of a thumbnail."""

MAX_THUMBNAIL_BYTES = 9_000_000
"""What all thumbnails of a page may take as text; with it, a page stays below 15 MB."""


def make_thumbnails(
    records: Sequence[ImageRecord],
    *,
    roles: Mapping[str, str],
    num_per_type: int,
    seed: int,
    progress: Progress,
    max_bytes: int = MAX_THUMBNAIL_BYTES,
) -> dict[tuple[str, str], tuple[Thumbnail, ...]]:
    """Returns (category, defect type) -> pictures; every type has its first before any has its second.

    Args:
        records: all images of the data set.
        roles: image_id -> role; empty if no roles could be given.
        num_per_type: pictures of each category and type, 1 or more.
        seed: of the choice; fewer pictures are among those of more.
        progress: shows one unit a picture.
        max_bytes: of all data URIs together; what does not fit is left out, and said.
    """
    chosen = choose(records, num_per_type=num_per_type, seed=seed)
    shown: dict[tuple[str, str], list[Thumbnail]] = {(record.category, record.defect_type): [] for record in chosen}
    room = max_bytes
    with progress.stage("drawing thumbnails", total=len(chosen)) as advance:
        for record, one in zip(chosen, _drawn(chosen, roles), strict=True):
            advance(1)
            if len(one.uri) > room:
                break
            room -= len(one.uri)
            shown[record.category, record.defect_type].append(one)
    num_shown = sum(len(members) for members in shown.values())
    if num_shown < len(chosen):
        progress.note(f"{len(chosen) - num_shown} thumbnails are left out to keep the page small")
    return {kind: tuple(sorted(members, key=lambda one: one.image_id)) for kind, members in shown.items()}


def choose(records: Sequence[ImageRecord], *, num_per_type: int, seed: int) -> list[ImageRecord]:
    """Returns a few images of every category and type: the first of each, then the second of each, and so on."""
    by_type: dict[tuple[str, str], list[ImageRecord]] = {}
    for record in sorted(records, key=lambda record: record.image_id):
        by_type.setdefault((record.category, record.defect_type), []).append(record)
    drawn = []
    for kind, members in sorted(by_type.items()):
        order = generator(seed, "thumbnails", *kind).permutation(len(members))
        drawn.append([members[i] for i in order[:num_per_type]])
    return [members[rank] for rank in range(num_per_type) for members in drawn if rank < len(members)]


def _drawn(chosen: Sequence[ImageRecord], roles: Mapping[str, str]) -> Iterator[Thumbnail]:
    """Draws in threads, a block at a time, so that few pictures are in memory at once."""
    num_threads = os.cpu_count() or 1
    with ThreadPoolExecutor(num_threads) as threads:
        for start in range(0, len(chosen), 4 * num_threads):
            block = chosen[start : start + 4 * num_threads]
            yield from threads.map(lambda record: draw(record, role=roles[record.image_id] if roles else ""), block)


def draw(record: ImageRecord, *, role: str) -> Thumbnail:
    """Returns one small picture with its mask outlined; what cannot be read is said in its note."""
    uri, shown_hw = "", record.size_hw
    gt_mask, note = _gt_mask(record)
    try:
        image = read_rgb(record.image_path)
        small = outlined_thumbnail(image, gt_mask, max_side_px=THUMBNAIL_PX)
        uri, shown_hw = jpeg_data_uri(small), (small.shape[0], small.shape[1])
    except DataError as error:
        note = str(error)
    return Thumbnail(
        image_id=record.image_id,
        label=record.image_id.removeprefix(f"{record.dataset}/{record.category}/"),
        role=role,
        size_hw=record.size_hw,
        outlined=bool(gt_mask.any()),
        note=note,
        uri=uri,
        shown_hw=shown_hw,
    )


def _gt_mask(record: ImageRecord) -> tuple[BoolMap, str]:
    """Returns the mask, all False without one, and what is amiss with it."""
    try:
        gt_mask = read_gt_masks(record.gt_mask_paths, size_hw=record.size_hw)
    except DataError as error:
        return np.zeros(record.size_hw, dtype=np.bool_), str(error)
    if not record.gt_label:
        return gt_mask, "mask on a good image" if gt_mask.any() else ""
    if not record.gt_mask_paths:
        return gt_mask, "no mask"
    return gt_mask, "" if gt_mask.any() else "mask is blank"
