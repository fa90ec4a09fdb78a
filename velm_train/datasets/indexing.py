"""Found image files in, checked `ImageRecord`s out: one pass over the files, no pixels kept."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from velm_train.core.errors import DataError
from velm_train.core.hashing import sha256_file
from velm_train.core.images import check_gt_mask, check_rgb
from velm_train.core.progress import Progress
from velm_train.core.records import ImageRecord, SizeHW
from velm_train.datasets.file_index import FileIndex
from velm_train.datasets.found import Found, FoundImage
from velm_train.datasets.reading import printable

logger = logging.getLogger(__name__)

OnBadFile = Literal["refuse", "exclude"]
"""What happens to an image whose file or mask is not as it has to be: stop, or leave it out and say so."""

_MAX_NAMED = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Excluded:
    """One image that was left out, with the reason."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Indexed:
    """A data set on disk.

    Attributes:
        records: sorted by image_id.
        excluded: images left out because a file of theirs is bad; empty unless that was allowed.
        notes: of the reader.
    """

    records: tuple[ImageRecord, ...]
    excluded: tuple[Excluded, ...]
    notes: tuple[str, ...]


def index_images(
    found: Found, *, dataset: str, index: FileIndex, on_bad_file: OnBadFile, progress: Progress
) -> Indexed:
    """Checks and hashes every image and checks every mask, each once in the life of the index.

    Args:
        found: what a reader found.
        dataset: name used in every image_id.
        index: remembers hashes and sizes between runs.
        on_bad_file: "refuse" stops at bad files and names them; "exclude" leaves their images out.
        progress: receives one unit an image, and a note for each of the reader's and for excluded images.

    Raises:
        DataError: naming files that cannot be read, have a name that is not UTF-8 or an image_id that another file
            has, or masks of another size than their image.
    """
    for note in found.notes:
        progress.note(f"{dataset}: {note}")
    _refuse_same_ids(found.images)
    masks = [path for image in found.images for path in image.gt_mask_paths]
    paths = [image.path for image in found.images]
    with progress.stage(f"reading {dataset}", total=len(paths) + len(masks)) as advance:
        facts = [*index.facts(paths, kind="sha256+size 2", compute=_hash_and_size, advance=advance)]
        sizes = index.facts(masks, kind="mask size 2", compute=_mask_size, advance=advance)
        mask_sizes = dict(zip(masks, sizes, strict=True))
    records: list[ImageRecord] = []
    excluded: list[Excluded] = []
    for image, fact in zip(found.images, facts, strict=True):
        try:
            records.append(_record(image, fact, mask_sizes, dataset=dataset))
        except DataError as error:
            excluded.append(Excluded(path=printable(image.path), reason=_with_place(image, error)))
    if excluded and on_bad_file == "refuse":
        raise DataError(_refusal(excluded))
    if excluded:
        progress.note(f"{dataset}: {len(excluded)} images are excluded: {_named(excluded)}")
    logger.info("%s: %d images, %d excluded", dataset, len(records), len(excluded))
    return Indexed(
        records=tuple(sorted(records, key=lambda record: record.image_id)),
        excluded=tuple(sorted(excluded, key=lambda one: one.path)),
        notes=found.notes,
    )


def _hash_and_size(path: Path) -> bytes:
    size_hw = check_rgb(path)
    return json.dumps([sha256_file(path), *size_hw]).encode()


def _mask_size(path: Path) -> bytes:
    return json.dumps(check_gt_mask(path)).encode()


def _record(
    image: FoundImage,
    fact: bytes | DataError,
    mask_sizes: Mapping[Path, bytes | DataError],
    *,
    dataset: str,
) -> ImageRecord:
    _require_utf8(image.path, *image.gt_mask_paths)
    if isinstance(fact, DataError):
        raise fact
    sha256, *size = json.loads(fact)
    size_hw = (int(size[0]), int(size[1]))
    for path in image.gt_mask_paths:
        _check_mask_size(path, mask_sizes[path], image=image, size_hw=size_hw)
    image_id = f"{dataset}/{image.category}/{image.relative_path}"
    return ImageRecord(
        image_id=image_id,
        dataset=dataset,
        category=image.category,
        split=image.split,
        defect_type=image.defect_type,
        image_path=image.path,
        gt_mask_paths=image.gt_mask_paths,
        sha256=sha256,
        group_id=image_id if image.group_id is None else image.group_id,
        size_hw=size_hw,
    )


def _check_mask_size(path: Path, fact: bytes | DataError, *, image: FoundImage, size_hw: SizeHW) -> None:
    if isinstance(fact, DataError):
        raise fact
    mask_hw = tuple(json.loads(fact))
    if mask_hw != size_hw:
        raise DataError(
            f"mask {path} is {mask_hw[0]}x{mask_hw[1]} (height x width), its image {image.path} "
            f"{size_hw[0]}x{size_hw[1]}; they must be equal"
        )


def _require_utf8(*paths: Path) -> None:
    for path in paths:
        try:
            str(path).encode()
        except UnicodeEncodeError as error:
            raise DataError(f"file name {printable(path)} is not UTF-8; rename the file") from error


def _with_place(image: FoundImage, error: DataError) -> str:
    return f"{image.where}: {error}" if image.where else str(error)


def _refuse_same_ids(images: Sequence[FoundImage]) -> None:
    first: dict[tuple[str, str], FoundImage] = {}
    for image in images:
        other = first.setdefault((image.category, image.relative_path), image)
        if other is not image:
            raise DataError(
                f"{_with_place(image, DataError(printable(image.path)))} and {printable(other.path)} have one id, "
                f"{image.category}/{image.relative_path}; every image may be listed once"
            )


def _named(excluded: list[Excluded]) -> str:
    rest = len(excluded) - _MAX_NAMED
    text = "; ".join(one.reason for one in excluded[:_MAX_NAMED])
    return text + (f"; and {rest} more" if rest > 0 else "")


def _refusal(excluded: list[Excluded]) -> str:
    if len(excluded) == 1:
        return excluded[0].reason
    return (
        f"{len(excluded)} images cannot be used: {_named(excluded)}; mend or remove them, or set "
        "dataset.on_bad_file=exclude to leave them out"
    )
