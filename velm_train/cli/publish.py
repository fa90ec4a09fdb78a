"""From predictions to what a person reads: results.json, report.html, the terminal's table, W&B's summary."""

from collections.abc import Sequence
from pathlib import Path

import torch

from velm_train.cli.build_data import config_hash
from velm_train.cli.compose import resolved_yaml
from velm_train.cli.examine import Examined
from velm_train.cli.gate_card import normal_parts
from velm_train.cli.gate_notices import REHEARSAL
from velm_train.cli.instruct import Material
from velm_train.cli.page import compose_page
from velm_train.cli.prepare import Looked, Prepared
from velm_train.cli.teach import Taught
from velm_train.cli.textile_comparison import textile_comparison
from velm_train.cli.track_results import track_results
from velm_train.cli.workshop import Workshop
from velm_train.core.scores import Scoreboard
from velm_train.gating.drift import detect_drift
from velm_train.reporting.content import ReportContent
from velm_train.reporting.language_words import language_table
from velm_train.reporting.manifest import Manifest, collect_manifest
from velm_train.reporting.predictions import write_predictions
from velm_train.reporting.report import write_report
from velm_train.reporting.results import Results, write_results
from velm_train.reporting.terminal import scoreboard_table
from velm_train.training.loggers import Logger


def publish(
    shop: Workshop,
    prepared: Prepared,
    looked: Looked,
    material: Material,
    taught: Taught,
    examined: Examined,
    *,
    loggers: Sequence[Logger],
) -> Path:
    """Writes everything a run leaves behind and prints the table; returns the report's path."""
    assert shop.run_folder is not None
    folder = shop.run_folder
    with shop.stage("report"):
        write_predictions(examined.predictions, folder / "predictions.jsonl")
        _link_adapter(folder, taught)
        notices = _notices(shop, prepared, looked, material, examined)
    page, examples = compose_page(shop, prepared, looked, material, taught, examined, notices=notices)
    manifest = _manifest(shop, prepared, looked, taught)
    results = Results(
        scoreboard=examined.scoreboard,
        manifest=manifest,
        answers=examined.answers,
        language=examined.language,
        page=page,
    )
    write_results(results, folder / "results.json")
    report = folder / "report.html"
    content = ReportContent(
        page=page,
        scoreboard=examined.scoreboard,
        examples=examples,
        config_yaml=resolved_yaml(shop.config),
        manifest=manifest,
        answers=examined.answers,
        language=examined.language,
    )
    write_report(content, report)
    for logger in loggers:
        logger.log_metrics(_headline(examined.scoreboard))
    track_results(shop, prepared, looked, taught, examined, page=page, manifest=manifest, loggers=loggers)
    for notice in notices:
        shop.progress.note(notice)
    shop.console.print(scoreboard_table(examined.scoreboard))
    if examined.language:
        shop.console.print(language_table(examined.language))
    shop.console.print(f"report: {report}", highlight=False, soft_wrap=True)
    return report


def _link_adapter(folder: Path, taught: Taught) -> None:
    """Copies the adapter into the run folder, so that the folder is complete by itself."""
    target = folder / "adapter"
    target.mkdir(exist_ok=True)
    for source in sorted(taught.adapter_folder.iterdir()):
        (target / source.name).write_bytes(source.read_bytes())


def _manifest(shop: Workshop, prepared: Prepared, looked: Looked, taught: Taught) -> Manifest:
    config = shop.config
    accelerators = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    hashes = {
        "config": config_hash(config),
        "split": prepared.manifest.sha256,
        "adapter": taught.adapter_key,
        "base model": taught.model.identity,
        **{f"allowed finding {one.finding_id}": one.finding_id for one in prepared.allowed_findings},
        **{f"detector of {name}": found.detector_hash for name, found in looked.detections.items()},
    }
    synthesis = config.dataset.synthesis
    seeds = {"run": config.seed} | ({} if synthesis is None else {"textures": synthesis.seed})
    return collect_manifest(
        shop.meter,
        seeds=seeds,
        hashes=hashes,
        accelerators=accelerators,
        project_folder=Path(__file__).resolve().parents[2],
    )


def _notices(shop: Workshop, prepared: Prepared, looked: Looked, material: Material, examined: Examined) -> list[str]:
    """Returns the sentences a reader must not miss."""
    config = shop.config
    notices = [REHEARSAL] if config.rehearsal else []
    if config.gate.policy != "detector":
        notices.append(f"Gate policy is {config.gate.policy!r}: these figures are not those of a working system.")
    if config.look_twice.source == "oracle":
        notices.append(
            "Look-twice source is 'oracle': ground-truth masks say where to look; every figure of this run is a bound."
        )
    if config.gate.allow_transductive:
        notices.append("Transductive detectors are allowed as a gate: no false-alarm guarantee holds.")
    notices += [f"Leak allowed in the audit, {one.finding_id}: {one.text}." for one in prepared.allowed_findings]
    if material.dropped:
        notices.append(f"{len(material.dropped)} training samples could not be built; see the log for the reasons.")
    drifted = [name for name, gate in looked.gates.items() if _drifted(shop, name, looked)]
    if drifted:
        notices.append(f"Scores of normal test images differ from the calibration scores in: {', '.join(drifted)}.")
    if prepared.manifest.left_out:
        notices.append(f"{len(prepared.manifest.left_out)} images have no role in the protocol and are left out.")
    if config.dataset.reader == "textile":
        notices += textile_comparison(examined.predictions, config.protocol.k_shot)
    return notices


def _drifted(shop: Workshop, category: str, looked: Looked) -> bool:
    scores = normal_parts([image for image in looked.test if image.record.category == category])
    if not scores.size:
        return False
    calibration = looked.gates[category].calibration_array()
    return detect_drift(scores, calibration, level=shop.config.gate.drift_level).drifted


def _headline(scoreboard: Scoreboard) -> dict[str, float]:
    """Returns the figures that runs are compared by, for the loggers."""
    scores = scoreboard.rows[0].scores
    figures = {
        "gate/image_auroc": scores.overall.detection.image_auroc,
        "gate/false_alarm_rate": scores.overall.detection.false_alarm_rate,
        "gate/miss_rate": scores.overall.detection.miss_rate,
        "system/normal_recall": scores.overall.system.normal_recall,
        "system/velm_accuracy": scores.overall.system.velm_accuracy,
    }
    for group in scores.groups:
        figures[f"system/end_to_end_balanced_recall/{group.name}"] = group.system.end_to_end_balanced_recall
    return {name: score.value for name, score in figures.items() if score.value is not None}
