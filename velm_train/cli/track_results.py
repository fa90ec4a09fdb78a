"""Scores, gates, predictions and files of a finished run in; what W&B shows of them, with few pictures, out."""

from collections.abc import Sequence

from velm_train.cli.examine import Examined
from velm_train.cli.gate_card import CARD_PAGE
from velm_train.cli.prepare import Looked, Prepared
from velm_train.cli.teach import Taught
from velm_train.cli.workshop import Workshop
from velm_train.core.hashing import sha256_file, sha256_json
from velm_train.core.images import read_rgb
from velm_train.core.report_facts import PageFacts
from velm_train.reporting.figures import thumbnail
from velm_train.reporting.manifest import Manifest
from velm_train.reporting.tracked_tables import confusion_counts, gate_rows, prediction_rows, scoreboard_rows
from velm_train.training.loggers import Cell, Logger, TrackedFiles, WandbTracker, log_table, trackers

PICTURE_SIDE_PX = 96
MAX_ROWS = 10_000
"""What W&B shows of a table."""

HASH_CHARACTERS = 12


def track_results(
    shop: Workshop,
    prepared: Prepared,
    looked: Looked,
    taught: Taught,
    examined: Examined,
    *,
    page: PageFacts,
    manifest: Manifest,
    loggers: Sequence[Logger],
) -> None:
    """Shows scoreboard, gates, confusions and predictions, and keeps split, gates and adapter with their lineage."""
    assert shop.run_folder is not None
    if not trackers(loggers):
        return
    for table in (scoreboard_rows(examined.scoreboard), gate_rows(page.gates)):
        log_table(loggers, name=table.name, columns=table.columns, rows=table.rows)
    columns, rows = _predictions(shop, looked, examined, shown=page.shown)
    log_table(loggers, name="predictions", columns=columns, rows=rows)
    for tracker in trackers(loggers):
        for category, counts in confusion_counts(examined.scoreboard.rows[0].scores):
            tracker.log_confusion(f"confusion/{category}", counts)
        tracker.log_page("gate_card", shop.run_folder / CARD_PAGE)
        tracker.log_config({"hashes": manifest.hashes, "packages": manifest.packages})
        if shop.config.logger.files:
            _keep_files(shop, prepared, looked, taught, tracker)


def _predictions(
    shop: Workshop, looked: Looked, examined: Examined, *, shown: Sequence[str]
) -> tuple[tuple[str, ...], list[tuple[Cell, ...]]]:
    """Returns columns and rows; those of the report's gallery first, of which the first few have their picture."""
    place = {image_id: i for i, image_id in enumerate(shown)}
    ordered = sorted(
        examined.predictions, key=lambda row: place[row.image_id] if row.image_id in place else len(place)
    )[:MAX_ROWS]
    table = prediction_rows(ordered)
    images = {image.record.image_id: image.record for image in looked.test}
    pictures: list[Cell] = [
        thumbnail(read_rgb(images[row.image_id].image_path), max_side_px=PICTURE_SIDE_PX)
        for row in ordered[: shop.config.logger.max_pictures]
    ]
    pictures += [None] * (len(ordered) - len(pictures))
    rows: list[tuple[Cell, ...]] = [(picture, *row) for picture, row in zip(pictures, table.rows, strict=True)]
    return ("picture", *table.columns), rows


def _keep_files(shop: Workshop, prepared: Prepared, looked: Looked, taught: Taught, tracker: WandbTracker) -> None:
    """Says what the run was made from and what it made, by name and hash."""
    folder, name = shop.run_folder, shop.config.name
    assert folder is not None
    gates = sha256_json({category: gate.to_json() for category, gate in looked.gates.items()})
    adapter = {path.name: path for path in sorted((folder / "adapter").iterdir())}
    for kind, files, key, used in (
        ("split", {"split.json": folder / "split.json"}, prepared.manifest.sha256, True),
        ("gates", {"gates.json": folder / "gates.json"}, gates, False),
        ("adapter", adapter, taught.adapter_key, False),
        ("results", {"results.json": folder / "results.json"}, sha256_file(folder / "results.json"), False),
    ):
        tracked = TrackedFiles(
            name=f"{name}-{kind}",
            kind=kind,
            files=files,
            facts={"hash": key, "split": prepared.manifest.sha256, "adapter": taught.adapter_key},
            alias=key[:HASH_CHARACTERS],
            used=used,
        )
        for left_out in tracker.log_files(tracked):
            shop.progress.note(f"not kept in W&B, because it names a place or a person: {kind}, {left_out}")
