"""From predictions to what a person reads: results.json, report.html, the terminal's table, W&B's summary."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from velm_train.cli.build_data import config_hash
from velm_train.cli.compose import resolved_yaml
from velm_train.cli.examine import Examined
from velm_train.cli.gate_card import normal_parts
from velm_train.cli.instruct import Material
from velm_train.cli.prepare import Looked, Prepared
from velm_train.cli.teach import Taught
from velm_train.cli.workshop import Workshop
from velm_train.core.images import read_rgb
from velm_train.core.records import NORMAL_DEFECT_TYPE, Prediction
from velm_train.core.scores import Scoreboard
from velm_train.datasets.published import TEXTILE_RESULTS
from velm_train.gating.drift import detect_drift
from velm_train.pipeline.looking import GatedImage
from velm_train.reporting.content import Example, GateCard, Licence, OptionShare, Outcome, ReportContent
from velm_train.reporting.figures import example_pictures
from velm_train.reporting.manifest import Manifest, collect_manifest
from velm_train.reporting.predictions import write_predictions
from velm_train.reporting.report import write_report
from velm_train.reporting.results import Results, write_results
from velm_train.reporting.terminal import scoreboard_table
from velm_train.training.loggers import Logger

EXAMPLES_PER_OUTCOME = 4
_OUTCOMES: tuple[Outcome, ...] = ("named right", "wrong name", "missed", "false alarm", "no name", "good passed")


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
    manifest = _manifest(shop, prepared, looked, taught)
    write_results(Results(scoreboard=examined.scoreboard, manifest=manifest), folder / "results.json")
    content = ReportContent(
        title=shop.config.name,
        subtitle=_subtitle(shop, prepared),
        notices=tuple(notices),
        scoreboard=examined.scoreboard,
        display_names=display_names(prepared),
        gates=_gate_cards(looked),
        examples=tuple(_examples(prepared, looked, material, examined.predictions)),
        config_yaml=resolved_yaml(shop.config),
        manifest=manifest,
        licences=tuple(
            Licence(item=f"{one.name}: {one.description}", licence=one.licence, source=one.source)
            for one in shop.assets.licences()
        ),
    )
    report = folder / "report.html"
    write_report(content, report)
    for logger in loggers:
        logger.log_metrics(_headline(examined.scoreboard))
    for notice in notices:
        shop.progress.note(notice)
    shop.console.print(scoreboard_table(examined.scoreboard))
    shop.console.print(f"report: {report}", highlight=False, soft_wrap=True)
    return report


def _link_adapter(folder: Path, taught: Taught) -> None:
    """Copies the adapter into the run folder, so that the folder is complete by itself."""
    target = folder / "adapter"
    target.mkdir(exist_ok=True)
    for source in sorted(taught.adapter_folder.iterdir()):
        (target / source.name).write_bytes(source.read_bytes())


def _subtitle(shop: Workshop, prepared: Prepared) -> str:
    config = shop.config
    return (
        f"{config.dataset.name}, protocol {prepared.manifest.protocol}, detector {config.detector.name} on "
        f"{config.detector.backbone}, {config.model.family} model, look-twice source {config.look_twice.source}, "
        f"seed {config.seed}"
    )


def display_names(prepared: Prepared) -> dict[str, dict[str, str]]:
    """Returns category -> defect type -> name for people."""
    return {
        category: {name: kind.display_name for name, kind in body.defect_types.items()}
        for category, body in prepared.taxonomy.categories.items()
    }


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
    notices: list[str] = []
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


def textile_comparison(predictions: Sequence[Prediction], k_shot: int) -> list[str]:
    """Returns this run's nominal-against-defective figures beside published few-shot CLIP, and where they differ."""
    said = np.array([row.pred_defect_type != NORMAL_DEFECT_TYPE for row in predictions])
    defective = np.array([row.gt_defect_type != NORMAL_DEFECT_TYPE for row in predictions])
    ours = (
        f"This run, nominal against defective: accuracy {np.mean(said == defective):.3f}, sensitivity "
        f"{np.mean(said[defective]):.3f}, specificity {np.mean(~said[~defective]):.3f} on {len(said)} images, from "
        f"{k_shot} labelled images of each of 2 defect types."
    )
    published = [
        f"{row.model} with {row.learning_normals} nominal examples: accuracy {row.accuracy:.3f}, sensitivity "
        f"{row.sensitivity:.3f}, specificity {row.specificity:.3f} ({row.source})."
        for row in TEXTILE_RESULTS
        if row.learning_normals == 50
    ]
    differs = (
        "The protocols do not match: the published runs answer nominal or defective, not the type; their test images "
        "are another random draw of the same set; their defect examples are as many as their nominal ones; and no "
        "false-alarm rate was fixed beforehand."
    )
    return [ours, *published, differs]


def _gate_cards(looked: Looked) -> tuple[GateCard, ...]:
    cards = []
    for category, gate in looked.gates.items():
        tested = [image for image in looked.test if image.record.category == category]
        promise = gate.guarantee
        cards.append(
            GateCard(
                category=category,
                num_calibration=gate.num_calibration,
                alpha=gate.alpha,
                image_threshold=gate.image_threshold,
                guarantee=promise.text if promise else "No guarantee holds: the detector is transductive.",
                calibration_scores=gate.calibration_scores,
                normal_scores=tuple(i.detection.anomaly_score for i in tested if not i.record.gt_label),
                defect_scores=tuple(i.detection.anomaly_score for i in tested if i.record.gt_label),
            )
        )
    return tuple(cards)


def _outcome(row: Prediction) -> Outcome:
    normal = row.gt_defect_type == NORMAL_DEFECT_TYPE
    says_normal = row.pred_defect_type == NORMAL_DEFECT_TYPE
    if normal:
        return "good passed" if says_normal else "false alarm"
    if says_normal:
        return "missed"
    if row.pred_defect_type is None:
        return "no name"
    return "named right" if row.pred_defect_type == row.gt_defect_type else "wrong name"


def _examples(
    prepared: Prepared, looked: Looked, material: Material, predictions: Sequence[Prediction]
) -> list[Example]:
    """Shows a few images of every outcome, spread over categories, chosen by image id alone."""
    images = {image.record.image_id: image for image in looked.test}
    names = display_names(prepared)
    shown: list[Example] = []
    for outcome in _OUTCOMES:
        rows = sorted((row for row in predictions if _outcome(row) == outcome), key=lambda row: row.image_id)
        step = max(1, len(rows) // EXAMPLES_PER_OUTCOME)
        shown += [
            _example(row, images[row.image_id], looked, material, names=names)
            for row in rows[::step][:EXAMPLES_PER_OUTCOME]
        ]
    return shown


def _example(
    row: Prediction,
    image: GatedImage,
    looked: Looked,
    material: Material,
    *,
    names: Mapping[str, Mapping[str, str]],
) -> Example:
    gate = looked.gates[row.category]
    category = names[row.category]

    def readable(defect_type: str | None) -> str:
        if defect_type is None:
            return "none of these"
        return "good" if defect_type == NORMAL_DEFECT_TYPE else category[defect_type]

    crop_box = None
    if row.pred_label:
        views = material.questions[row.image_id][0][0].views
        crop_box = next((view.box_xyxy for view in views if view.kind == "crop"), None)
    return Example(
        outcome=_outcome(row),
        image_id=row.image_id,
        category=row.category,
        group=row.group,
        gt_name=readable(row.gt_defect_type),
        pred_name=readable(row.pred_defect_type) if row.pred_label else "stopped by the gate",
        anomaly_score=row.anomaly_score,
        image_threshold=gate.image_threshold,
        options=_shares(row.option_log_likelihoods),
        pictures=example_pictures(
            read_rgb(image.record.image_path),
            anomaly_map=image.detection.anomaly_map,
            low=gate.pixel_threshold,
            high=2 * gate.pixel_threshold,
            contours=[region.contour for region in image.regions if len(region.contour)],
            crop_box_xyxy=crop_box,
        ),
        note=f"p = {row.p_value:.3f}",
    )


def _shares(log_likelihoods: Mapping[str, float]) -> tuple[OptionShare, ...]:
    if not log_likelihoods:
        return ()
    values = np.array(list(log_likelihoods.values()))
    shares = np.exp(values - values.max())
    shares /= shares.sum()
    ranked = sorted(zip(log_likelihoods, shares.tolist(), strict=True), key=lambda pair: -pair[1])
    return tuple(OptionShare(name=name, share=share) for name, share in ranked)


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
