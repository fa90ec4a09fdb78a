"""`task=export`: a finished run in, a folder with its merged model out, if it answers like the run's adapter."""

import dataclasses
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table

from velm_train.cli.asking import asked_images, scorer_of
from velm_train.cli.build_model import DTYPES, make_model, make_renderer
from velm_train.cli.export_onnx import write_onnx_files
from velm_train.cli.instruct import encode, instruct
from velm_train.cli.prepare import look_at, prepare
from velm_train.cli.run_config import ADAPTER_FOLDER, read_run_config, with_folders
from velm_train.cli.teach import Taught
from velm_train.cli.workshop import Workshop, open_workshop
from velm_train.core.artifacts import require_free_disk, write_atomic
from velm_train.core.errors import ConfigError, GateError, ResourceError
from velm_train.core.records import Prediction
from velm_train.core.shapes import RGBImage
from velm_train.evaluation.controls import stratified_part
from velm_train.evaluation.gated import GatedImage as AskedImage
from velm_train.evaluation.runner import run_evaluation
from velm_train.models.build import BuiltModel
from velm_train.models.export.checked import MergedParity, export_merged
from velm_train.models.export.merging import load_merged
from velm_train.models.export.onnx_graph import OnnxParity, require_onnx
from velm_train.models.export.parity import Agreement, Answers, compare_answers
from velm_train.models.saving import library_versions, verify_adapter
from velm_train.models.weight_files import MANIFEST_NAME
from velm_train.pipeline.views import render_view
from velm_train.reporting.predictions import read_predictions

REPORT_NAME = "export.json"
MODEL_FOLDER = "model"
ONNX_FOLDER = "onnx"
SCHEMA_VERSION = 1
_PICTURES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class _Questions:
    """What every form of the model is asked.

    Attributes:
        shop: with the run's own settings.
        taught: the run's model with its adapter, renderer and features.
        images: flagged test images with their questions.
    """

    shop: Workshop
    taught: Taught
    images: tuple[AskedImage, ...]

    def ask(self, model: BuiltModel) -> Answers:
        """Returns what a form of the model says about every image."""
        model.eval()
        scorer = scorer_of(self.shop, model, renderer=self.taught.renderer, features=self.taught.features)
        rows = run_evaluation(
            self.images,
            scorer=scorer,
            hashes={},
            on_rows=_keep_nothing,
            done=set(),
            progress=self.shop.progress,
            title="ask",
        )
        return _answers(rows)

    def pictures(self) -> list[RGBImage]:
        """Returns a few of the views, as the model is shown them."""
        views = [view for image in self.images for view in image.questions[0].prompt.sample.views]
        width = self.shop.config.regions.contour_width_px
        return [render_view(view, contour_width_px=width) for view in views[:_PICTURES]]


def export_model(shop: Workshop) -> None:
    """Merges the run of `ckpt`, checks it and puts it under its name; nothing is left behind if it fails.

    Raises:
        ExportError: if adapter, merged and reloaded model, or a graph and its module, do not agree.
        VelmError: if the run cannot be read.
    """
    settings = shop.config.export
    assert shop.config.ckpt is not None, "the configuration has checked that"
    run_folder = Path(shop.config.ckpt).expanduser()
    if settings.onnx:
        require_onnx()
    target = run_folder / "export" if settings.folder is None else Path(settings.folder).expanduser()
    config = read_run_config(run_folder, needed=(f"{ADAPTER_FOLDER}/{MANIFEST_NAME}",))
    verify_adapter(run_folder / ADAPTER_FOLDER)
    _require_free(target)
    run = open_workshop(with_folders(config, here=shop.config.paths), run_folder=None)
    questions = _questions(run, run_folder, num_images=settings.num_images)
    with appearing(target) as folder:
        model = questions.taught.model
        require_free_disk(folder.parent, needed_bytes=2 * sum(weight.nbytes for weight in model.parameters()))
        graphs: dict[str, OnnxParity] = {}
        if settings.onnx:
            graphs = write_onnx_files(
                run, questions.taught, questions.images, folder / ONNX_FOLDER, tolerance=settings.onnx_tolerance
            )
        parity = export_merged(
            model,
            folder / MODEL_FOLDER,
            ask=questions.ask,
            reload=partial(load_merged, assets=run.assets),
            pictures=questions.pictures(),
            dtype=DTYPES[settings.dtype],
            tolerance_nats=settings.tolerance_nats,
        )
        as_scored = _as_scored(run_folder, parity.reference)
        report = _report(shop, parity, as_scored=as_scored, graphs=graphs)
        write_atomic(folder / REPORT_NAME, json.dumps(report, indent=1, sort_keys=True, allow_nan=False))
    _show(shop, parity, as_scored=as_scored, graphs=graphs)
    shop.console.print(f"export: {target}", highlight=False, soft_wrap=True)


def _questions(run: Workshop, run_folder: Path, *, num_images: int) -> _Questions:
    """Goes the run's road again up to its questions; finished stages are reused.

    Raises:
        GateError: if no test image reaches the model.
    """
    prepared = prepare(run)
    looked = look_at(run, prepared)
    material = instruct(run, prepared, looked)
    model = make_model(run.config, assets=run.assets)
    model.load_adapter(run_folder / ADAPTER_FOLDER)
    taught = Taught(
        model=model,
        renderer=make_renderer(model, assets=run.assets),
        features=encode(run, prepared, looked, material, model=model),
        adapter_folder=run_folder / ADAPTER_FOLDER,
        adapter_key="",
        summary=None,
    )
    asked = asked_images(looked, material, taught, renderer=taught.renderer)
    part = stratified_part(asked, max_flagged=num_images, seed=run.config.seed)
    flagged = tuple(image for image in part if image.questions)
    if not flagged:
        raise GateError(
            f"{run_folder}: no test image reaches the model, so its forms cannot be compared; export a run whose gate "
            "flags something"
        )
    return _Questions(shop=run, taught=taught, images=flagged)


def _require_free(target: Path) -> None:
    if target.exists():
        raise ConfigError(f"export.folder={target} is there already; delete it, or name another folder")


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """Gives a folder to fill, which takes its name when the block ends well and vanishes when it does not.

    Raises:
        ResourceError: if the folder cannot be made.
    """
    partial_folder = target.with_name(f".{target.name}.partial")
    try:
        shutil.rmtree(partial_folder, ignore_errors=True)  # of an export that was killed
        partial_folder.mkdir(parents=True)
    except OSError as error:
        raise ResourceError(
            f"cannot write {target.parent}: {error.strerror}; set export.folder to a folder you may write"
        ) from error
    try:
        yield partial_folder
        partial_folder.replace(target)
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)


def _keep_nothing(rows: Sequence[Prediction]) -> None:
    del rows


def _answers(rows: Sequence[Prediction]) -> Answers:
    return Answers(
        labels={row.image_id: row.pred_defect_type for row in rows},
        log_likelihoods={row.image_id: row.option_log_likelihoods for row in rows},
    )


def _as_scored(run_folder: Path, reference: Answers) -> Agreement | None:
    """Compares with what the run itself wrote down, in its own number type; None if it was not scored."""
    path = run_folder / "predictions.jsonl"
    if not path.is_file():
        return None
    rows = {row.image_id: row for row in read_predictions(path)}
    shared = [rows[image_id] for image_id in reference.labels if image_id in rows]
    if len(shared) < len(reference.labels):
        return None
    return compare_answers("scored in the run", reference=reference, other=_answers(shared))


def _report(
    shop: Workshop, parity: MergedParity, *, as_scored: Agreement | None, graphs: dict[str, OnnxParity]
) -> dict[str, Any]:
    settings = shop.config.export
    return {
        "schema_version": SCHEMA_VERSION,
        "run": str(shop.config.ckpt),
        "dtype": settings.dtype,
        "tolerance_nats": settings.tolerance_nats,
        "merged": dataclasses.asdict(parity.merged),
        "reloaded": dataclasses.asdict(parity.reloaded),
        "evidence_difference": parity.evidence_difference,
        "scored_in_the_run": None if as_scored is None else _finite(dataclasses.asdict(as_scored)),
        "onnx_tolerance": settings.onnx_tolerance,
        "onnx": {name: dataclasses.asdict(graph) for name, graph in graphs.items()},
        "versions": library_versions(),
    }


def _finite(figures: dict[str, Any]) -> dict[str, Any]:
    """Returns figures with null for what is no finite number."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in figures.items()
    }


def _show(shop: Workshop, parity: MergedParity, *, as_scored: Agreement | None, graphs: dict[str, OnnxParity]) -> None:
    settings = shop.config.export
    table = Table(title=f"Same answers as with the adapter, in {settings.dtype}")
    for column in ("form", "labels that differ", "largest difference", "allowed"):
        table.add_column(column, justify="left" if column == "form" else "right")
    allowed = f"0, {settings.tolerance_nats:g} nats"
    rows = [(parity.merged, allowed), (parity.reloaded, allowed)]
    rows += [] if as_scored is None else [(as_scored, "for comparison")]
    for agreement, limit in rows:
        flips = f"{len(agreement.flipped)} of {agreement.num_images}"
        table.add_row(agreement.form, flips, f"{agreement.largest_difference_nats:.2e} nats", limit)
    for graph in graphs.values():
        share = f"{graph.relative:.2e} of the largest value"
        table.add_row(graph.file, f"{graph.num_rows} tried", share, f"{settings.onnx_tolerance:g}")
    shop.console.print(table)
