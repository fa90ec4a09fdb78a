"""Images, and what asks about some of them, in; the rows of all of them, asked by several processes, out.

Every process keeps its share as an artefact of its own, so that each continues where it was interrupted. The first one
waits for the others and puts the rows in the order in which one process alone would have made them, under the key that
it would have used.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from velm_train.cli.workshop import Workshop
from velm_train.core.artifacts import StageKey
from velm_train.core.records import Prediction
from velm_train.evaluation.gated import GatedImage
from velm_train.evaluation.runner import share_of
from velm_train.reporting.predictions import read_predictions, write_predictions

PREDICTIONS_NAME = "predictions.jsonl"
_REUSE, _ASK = "reuse", "ask"
_POLL_SECONDS = 0.2

BuildPart = Callable[[Path, Sequence[GatedImage]], None]
"""Fills a folder with the rows of some images."""


def shared_rows(
    shop: Workshop,
    key: StageKey,
    images: Sequence[GatedImage],
    build_part: BuildPart,
    *,
    name: str,
    order: Sequence[str],
) -> list[Prediction]:
    """Returns one row an image on the first process, and none on the others.

    Args:
        shop: store, and the meeting of the processes.
        key: of all rows.
        images: all of them, the same on every process.
        build_part: asks about a share.
        name: of the row of the scoreboard.
        order: ids of the images in the order of the rows.
    """
    title, rank = f"predictions of {name}", shop.rank
    word = shop.meeting.agree("predictions", lambda: _REUSE if shop.store.has(key) else _ASK)
    if word == _ASK:
        part = share_of(images, number=rank.number, num_shares=rank.world_size)
        own = _share_key(key, number=rank.number, num_shares=rank.world_size)
        shop.store.get_or_build(own, lambda folder: build_part(folder, part), title=f"{title}, share {rank.number}")
    if not rank.is_first:
        return []

    def put_together(folder: Path) -> None:
        rows = [row for path in _shares(shop, key) for row in read_predictions(path / PREDICTIONS_NAME)]
        write_predictions(in_order(rows, order), folder / PREDICTIONS_NAME)

    folder = shop.store.get_or_build(key, put_together, title=title)
    return read_predictions(folder / PREDICTIONS_NAME)


def in_order(rows: Sequence[Prediction], order: Sequence[str]) -> list[Prediction]:
    """Returns the rows of all shares in order; every image has one."""
    by_image = {row.image_id: row for row in rows}
    assert len(by_image) == len(rows), "an image was asked about twice"
    assert by_image.keys() == set(order), "an image was left out, or one more was asked about"
    return [by_image[image_id] for image_id in order]


def _share_key(key: StageKey, *, number: int, num_shares: int) -> StageKey:
    return dataclasses.replace(
        key, stage="prediction_shares", settings={**key.settings, "share": number, "shares": num_shares}
    )


def _shares(shop: Workshop, key: StageKey) -> list[Path]:
    """Waits until every process has its share, and returns their folders."""
    num_shares = shop.rank.world_size
    keys = [_share_key(key, number=number, num_shares=num_shares) for number in range(num_shares)]
    while not all(shop.store.has(one) for one in keys):
        time.sleep(_POLL_SECONDS)
    return [shop.store.folder(one) for one in keys]
