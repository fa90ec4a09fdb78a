"""A data set of labelled synthetic defects: good images and recipes in, MVTec-style folders out.

<out>/<category>/train/good, test/good             the user's good images, hard-linked or copied
<out>/<category>/test/<type>/NNN.png               defects; even numbers for training, odd ones for the test
<out>/<category>/ground_truth/<type>/NNN_mask.png
<out>/groups.csv                                   which images must stay on one side of a split
<out>/synthesis.json                               seed, recipes, and the source and hash of every image
"""

import csv
import functools
import io
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image

from velm_train.core.artifacts import write_atomic
from velm_train.core.hashing import sha256_file
from velm_train.core.images import read_rgb
from velm_train.core.progress import Advance, Progress
from velm_train.core.records import ImageRecord
from velm_train.core.seeding import generator
from velm_train.core.shapes import BoolMap, RGBImage
from velm_train.datasets.reading import GROUPS_FILE
from velm_train.datasets.synthesis.foreground import find_foreground
from velm_train.datasets.synthesis.making import make_defect
from velm_train.datasets.synthesis.plan import (
    DefectFile,
    ForegroundMode,
    GoodFile,
    SynthesisSettings,
    defect_files,
    divide_all,
    good_files,
)
from velm_train.datasets.synthesis.protocol import Operator
from velm_train.datasets.synthesis.recipes import make_recipes
from velm_train.datasets.synthesis.sides import Sides
from velm_train.datasets.synthesis.statement import (
    GoodRow,
    Journal,
    LeftOutType,
    Statement,
    SyntheticRow,
    claim_folder,
    finished_statement,
    write_statement,
)

logger = logging.getLogger(__name__)

_MAX_SOURCES = 4
"""Good images that are tried for one defect before its type is given up in the category."""

_SKETCHES = 9
"""Good images that say whether a category shows parts on a background or surfaces."""


def synthesise(
    records: Sequence[ImageRecord],
    *,
    out: Path,
    recipes: Mapping[str, Sequence[str]],
    settings: SynthesisSettings,
    num_threads: int,
    progress: Progress,
) -> Statement:
    """Writes the data set; the same arguments give the same bytes, and a killed run is continued.

    A type that cannot be laid on a category's images is left out there, and the statement says so. More images per type
    leave the earlier ones as they are.

    Args:
        records: good images, of one or more categories.
        out: root of the new data set: a new or empty folder, or what a killed run with the same arguments has left.
        recipes: type name -> names of operators, applied in order.
        settings: how many, where, and the seed.
        num_threads: images made at once, 1 or more; any number gives the same bytes.
        progress: receives one unit an image.

    Returns:
        What was written, as in `synthesis.json`.

    Raises:
        DataError: if the records or recipes are not as they have to be, or the folder holds something else.
        ResourceError: if the folder cannot be written.
    """
    operators = make_recipes(recipes)
    sides = divide_all(records, seed=settings.seed)
    request = claim_folder(out, records=records, recipes=recipes, settings=settings)
    finished = finished_statement(out)
    if finished is not None:
        progress.note(f"{out} is finished and intact; nothing is made anew")
        return finished
    goods = [file for category in sides for file in good_files(category, sides[category])]
    total = len(goods) + len(sides) * len(operators) * settings.per_type
    made: list[SyntheticRow] = []
    left_out: list[LeftOutType] = []
    with progress.stage("synthesis", total=total) as advance, ThreadPoolExecutor(num_threads) as pool:
        for file in goods:
            _link(file.source.image_path, out / file.path)
            advance(1)
        make_all = functools.partial(_make_all, pool=pool, journal=Journal(out), advance=advance)
        for category, own in sides.items():
            mode = _agreed_mode([*own.train, *own.test], mode=settings.foreground)
            for name, operator in operators.items():
                files = defect_files(category, own, defect_type=name, settings=settings)
                make = functools.partial(_make, out=out, operator=operator, mode=mode, seed=settings.seed)
                rows = make_all(files, make=make)
                if len(rows) == len(files):
                    made += rows
                else:
                    left_out.append(_give_up(out, category=category, defect_type=name))
    return _finish(out, request=request, sides=sides, goods=goods, defects=made, left_out=left_out)


def _finish(
    out: Path,
    *,
    request: dict[str, Any],
    sides: Mapping[str, Sides],
    goods: Sequence[GoodFile],
    defects: Sequence[SyntheticRow],
    left_out: Sequence[LeftOutType],
) -> Statement:
    """Writes what can only be written at the end."""
    statement = Statement(
        request=request,
        goods=tuple(GoodRow(image=file.path, source=file.source.image_id, sha256=file.source.sha256) for file in goods),
        defects=tuple(defects),
        left_out=tuple(left_out),
        new_test_good=tuple(category for category, own in sides.items() if own.test_is_new),
    )
    write_atomic(out / GROUPS_FILE, _groups_csv(goods, defects))
    write_statement(out, statement)
    logger.info("%s: %d good images, %d defects, %d types left out", out, len(goods), len(defects), len(left_out))
    return statement


def _make_all(
    files: Sequence[DefectFile],
    *,
    make: Callable[[DefectFile], SyntheticRow | None],
    pool: ThreadPoolExecutor,
    journal: Journal,
    advance: Advance,
) -> list[SyntheticRow]:
    """Makes the images of one type that are not there yet; returns the rows of those that could be made."""
    known = [journal.row(file.path) for file in files]
    tasks = [None if row else pool.submit(make, file) for row, file in zip(known, files, strict=True)]
    rows = []
    try:
        for row, task in zip(known, tasks, strict=True):
            made = row if task is None else task.result()
            if made is not None:
                rows.append(made)
            if task is not None and made is not None:
                journal.add(made)
            advance(1)
    finally:  # an interrupted run does not wait for what has not begun
        for task in tasks:
            if task is not None:
                task.cancel()
    return rows


def _link(source: Path, target: Path) -> None:
    """Gives a good image its place without a second copy, where the file system allows it."""
    if target.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source.resolve())
    except OSError:  # another file system, or one without hard links
        partial = target.with_name(f".{target.name}.partial")
        shutil.copyfile(source, partial)
        partial.replace(target)


def _agreed_mode(goods: Sequence[ImageRecord], *, mode: ForegroundMode) -> ForegroundMode:
    """Returns "auto" if a part on a plain background is found in most of a few images, else "whole"."""
    if mode == "whole":
        return "whole"
    some = sorted(goods, key=lambda record: record.sha256)[:_SKETCHES]
    found = [find_foreground(read_rgb(record.image_path)) is not None for record in some]
    return "auto" if 2 * sum(found) > len(found) else "whole"


def _make(file: DefectFile, *, out: Path, operator: Operator, mode: ForegroundMode, seed: int) -> SyntheticRow | None:
    """Makes one image and its mask; None if no source takes the defect."""
    donors = [read_rgb(record.image_path) for record in file.donors]
    for attempt, source in enumerate(file.sources[:_MAX_SOURCES]):
        good = read_rgb(source.image_path)
        rng = generator(seed, "synthesis", file.category, file.defect_type, str(file.number), str(attempt))
        foreground = find_foreground(good) if mode == "auto" else None
        defect = make_defect(good, operator=operator, donors=donors, foreground=foreground, rng=rng)
        if defect is not None:
            _write_png(defect.gt_mask, out / file.gt_mask_path)
            _write_png(defect.image, out / file.path)
            return SyntheticRow(
                image=file.path,
                gt_mask=file.gt_mask_path,
                category=file.category,
                defect_type=file.defect_type,
                side=file.side,
                source=source.image_id,
                source_sha256=source.sha256,
                group=file.group(source),
                sha256=sha256_file(out / file.path),
                gt_mask_sha256=sha256_file(out / file.gt_mask_path),
            )
    return None


def _write_png(picture: RGBImage | BoolMap, path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="PNG", compress_level=1)
    write_atomic(path, stream.getvalue())


def _give_up(out: Path, *, category: str, defect_type: str) -> LeftOutType:
    for folder in (out / category / "test" / defect_type, out / category / "ground_truth" / defect_type):
        shutil.rmtree(folder, ignore_errors=True)
    return LeftOutType(
        category=category,
        defect_type=defect_type,
        reason=f"type {defect_type} is left out: no draw was visible and of a permitted size on {_MAX_SOURCES} images",
    )


def _groups_csv(goods: Sequence[GoodFile], defects: Sequence[SyntheticRow]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "group"])
    writer.writerows(sorted([(file.path, file.group) for file in goods] + [(row.image, row.group) for row in defects]))
    return text.getvalue()
