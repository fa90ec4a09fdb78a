"""`task=predict`: a finished run and new pictures in; a row for each, a page and a summary out."""

import dataclasses
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from velm_train.cli.compose import load_config
from velm_train.cli.gather_pictures import gather_pictures
from velm_train.cli.load_inspector import FinishedRun, build_inspector, read_run
from velm_train.cli.workshop import Workshop
from velm_train.config import Config
from velm_train.core.artifacts import StageKey
from velm_train.core.errors import ConfigError, DataError
from velm_train.core.hashing import sha256_file
from velm_train.core.images import read_rgb
from velm_train.core.inspection import Inspection, InspectionSummary
from velm_train.evaluation.inspector import Inspector
from velm_train.evaluation.new_pictures import NewPicture, category_of
from velm_train.evaluation.verdicts import summarise
from velm_train.reporting.inspections import InspectionMemory, write_inspections, write_summary
from velm_train.reporting.prediction_page import (
    DrawnPicture,
    PredictionContent,
    counted,
    draw,
    drawn_first,
    sentences,
    verdict_table,
    write_prediction_page,
)

logger = logging.getLogger(__name__)

INSPECTION_VERSION = 1
"""Raised when the same system says something else about the same picture."""

OWN_GROUPS = frozenset({"name", "threads", "task", "paths", "ckpt", "input", "category", "predict"})
"""Settings that belong to the task; all others are the run's own."""

MAX_NAMED = 5
"""Files named in one message."""


def predict(shop: Workshop) -> None:
    """Judges every picture that `input` means with the run that `ckpt` names.

    Raises:
        ConfigError: if a setting was given that only the run decides.
        ArtifactError: if the run lacks something.
        DataError: if there is no picture, a category cannot be told, or no picture could be read.
    """
    config = shop.config
    assert config.ckpt is not None
    assert shop.run_folder is not None
    refuse_settings_of_the_run(config)
    run = read_run(
        Path(config.ckpt).expanduser(),
        artifacts=Path(config.paths.artifacts).expanduser(),
        assets=Path(config.paths.assets).expanduser(),
    )
    pictures = _pictures(config, run)
    shop.progress.note(f"{counted(len(pictures))} to inspect")
    rows, measured = _inspect(shop, run, pictures)
    summary = summarise(
        rows,
        gates=run.gates,
        drift_level=run.config.gate.drift_level,
        measured=measured,
        answers=run.answers,
        abstain_below=run.abstention(config.predict.abstain_below),
    )
    _publish(shop, run, rows, summary)
    if summary.verdicts["unreadable"] == len(rows):
        raise DataError(f"no picture could be read, of {len(rows)}; the first: {rows[0].error}")


def refuse_settings_of_the_run(config: Config) -> None:
    """Refuses words that would have no effect, because the finished run has decided.

    Raises:
        ConfigError: naming the groups of the settings that differ from the shipped ones.
    """
    plain = load_config(["task=predict", "ckpt=any", "input=-"])
    changed = [
        field.name
        for field in dataclasses.fields(config)
        if field.name not in OWN_GROUPS and getattr(config, field.name) != getattr(plain, field.name)
    ]
    if changed:
        raise ConfigError(
            f"task=predict takes {', '.join(changed)} from the run that ckpt names; leave these words out, or run with "
            "them first"
        )


def _pictures(config: Config, run: FinishedRun) -> list[NewPicture]:
    """Returns every picture with its category; nothing is opened."""
    words = config.input if isinstance(config.input, list) else [config.input]
    files = gather_pictures(words, stdin=sys.stdin)
    found = [(path, category_of(path, given=config.category, categories=list(run.gates))) for path in files]
    lost = [str(path) for path, category in found if category is None]
    if lost:
        more = f" and {len(lost) - MAX_NAMED} more" if len(lost) > MAX_NAMED else ""
        raise DataError(
            f"no folder above {', '.join(lost[:MAX_NAMED])}{more} is named like a category of the run; say category=, "
            f"one of: {', '.join(sorted(run.gates))}"
        )
    return [
        NewPicture(path=path, shown_path=str(path), category=category)
        for path, category in found
        if category is not None
    ]


def _inspect(
    shop: Workshop, run: FinishedRun, pictures: Sequence[NewPicture]
) -> tuple[list[Inspection], list[Inspection]]:
    """Returns a row for every picture in the order given, and those of them that were made now.

    Rows are kept as they are made, under the hash of the system that made them: a command that was stopped goes on
    behind its last row, and a picture that was judged before is not judged again.
    """
    config = shop.config
    key = StageKey(
        stage="inspections",
        version=INSPECTION_VERSION,
        inputs={"system": run.identity},
        settings={"abstain_below": run.abstention(config.predict.abstain_below)},
    )
    made: dict[str, Inspection] = {}
    with InspectionMemory(shop.store.folder(key)) as memory:
        reused = _remembered(memory.known(), pictures)
        if reused:
            shop.progress.note(f"inspected before, and not inspected again: {len(reused)} of them")
        todo = [picture for picture in pictures if picture.shown_path not in reused]

        def keep(rows: Sequence[Inspection]) -> None:
            memory.keep(rows)
            made.update({row.path: row for row in rows})
            advance(len(rows))

        if todo:
            with shop.stage("load the run"):
                inspector = build_inspector(run, kind=Inspector, abstain_below=config.predict.abstain_below)
            with shop.stage("inspect"), shop.progress.stage("inspect pictures", total=len(todo)) as advance:
                for start in range(0, len(todo), config.predict.batch):
                    inspector.inspect_many(todo[start : start + config.predict.batch], on_rows=keep)
    rows = reused | made
    return [rows[picture.shown_path] for picture in pictures], list(made.values())


def _remembered(known: Mapping[tuple[str, str], Inspection], pictures: Sequence[NewPicture]) -> dict[str, Inspection]:
    """Returns shown path -> row of the pictures whose bytes were judged before, as what they are now."""
    if not known:
        return {}
    found: dict[str, Inspection] = {}
    for picture in pictures:
        try:
            place = (sha256_file(picture.path), picture.category)
        except OSError as error:  # it gets a row that says why
            logger.info("%s: %s", picture.path, error)
            continue
        if place in known:
            found[picture.shown_path] = dataclasses.replace(known[place], path=picture.shown_path)
    return found


def _publish(shop: Workshop, run: FinishedRun, rows: Sequence[Inspection], summary: InspectionSummary) -> None:
    """Writes rows, summary and page, and prints what they come to."""
    assert shop.run_folder is not None
    folder = shop.run_folder
    write_inspections(rows, folder / "inspections.jsonl")
    write_summary(summary, folder / "summary.json")
    with shop.stage("draw the page"):
        drawn = {row.path: _drawn(row) for row in drawn_first(rows)[: shop.config.predict.max_drawn]}
        content = PredictionContent(
            title=run.folder.name,
            subtitle=f"Run {run.config.name}, model {run.config.model.family}, detector {run.config.detector.name}",
            rows=tuple(rows),
            summary=summary,
            alphas={name: gate.alpha for name, gate in run.gates.items()},
            drawn={path: picture for path, picture in drawn.items() if picture is not None},
            policy=rows[0].gate_policy,
        )
        write_prediction_page(content, folder / "inspections.html")
    shop.console.print(verdict_table(summary))
    for sentence in sentences(content):
        shop.console.print(sentence, highlight=False, markup=False)
    for row in [row for row in rows if row.verdict == "unreadable"][:MAX_NAMED]:
        shop.console.print(f"unreadable: {row.error}", highlight=False, markup=False, soft_wrap=True)
    shop.console.print(f"rows: {folder / 'inspections.jsonl'}", highlight=False, soft_wrap=True)
    shop.console.print(f"page: {folder / 'inspections.html'}", highlight=False, soft_wrap=True)


def _drawn(row: Inspection) -> DrawnPicture | None:
    """Returns the picture's thumbnails, or None if its file cannot be read any more."""
    try:
        return draw(read_rgb(Path(row.path).expanduser()), row)
    except DataError as error:
        logger.info("%s is not drawn: %s", row.path, error)
        return None
