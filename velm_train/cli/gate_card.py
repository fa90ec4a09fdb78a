"""The end of `task=detect`: gates and judged test images in, gate_card.json, gate_card.html and a short table out."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from velm_train.cli.build_data import config_hash
from velm_train.cli.compose import resolved_yaml
from velm_train.cli.gate_notices import notices
from velm_train.cli.prepare import Looked, Prepared
from velm_train.cli.workshop import Workshop
from velm_train.core.artifacts import write_atomic
from velm_train.core.gate_card import CategoryGate, GateReport, JudgedImage, SuspectImage
from velm_train.core.images import read_gt_masks, read_rgb
from velm_train.core.records import NORMAL_DEFECT_TYPE, Detection, ImageRecord, Prediction
from velm_train.core.scores import LocalisationScores, Score
from velm_train.gating.conformal import Scores
from velm_train.gating.drift import detect_drift
from velm_train.gating.evidence import UNTESTED_NORMALS, TriedGate, alpha_row, overall_row
from velm_train.gating.gate import CalibratedGate
from velm_train.gating.guarantees import reach
from velm_train.gating.outliers import find_outliers
from velm_train.gating.parts import part_numbers, part_scores
from velm_train.metrics.detection import image_auroc
from velm_train.metrics.intervals import stratified_weights
from velm_train.metrics.table import make_table
from velm_train.pipeline.localisation import localise
from velm_train.pipeline.looking import GatedImage
from velm_train.reporting.figures import Picture, heatmap_overlay, outlined_thumbnail, thumbnail
from velm_train.reporting.gate_page import render_gate_page, shown_images, write_gate_card
from velm_train.reporting.gate_table import gate_table

REACH_ALPHAS = (0.1, 0.05, 0.02, 0.01, 0.005)
"""Rates that the card says whether the normals suffice for."""

PICTURE_SIDE_PX = 240
CARD_PAGE = "gate_card.html"

logger = logging.getLogger(__name__)


def publish_gate_card(shop: Workshop, prepared: Prepared, looked: Looked) -> Path:
    """Writes the card of all gates and prints its table; returns the page's path.

    Raises:
        ResourceError: if the files cannot be written.
    """
    assert shop.run_folder is not None
    report = write_gate_files(shop, prepared, looked)
    page = shop.run_folder / CARD_PAGE
    for category in report.categories:
        for suspect in category.suspects:
            logger.warning("%s looks like no other normal image of %s", suspect.image_path, category.category)
    for notice in report.notices:
        shop.progress.note(notice)
    shop.console.print(gate_table(report))
    shop.console.print(f"gate card: {page}", highlight=False, soft_wrap=True)
    return page


def write_gate_files(shop: Workshop, prepared: Prepared, looked: Looked) -> GateReport:
    """Writes gate_card.json and gate_card.html into the run folder and returns what they say.

    Raises:
        ResourceError: if the files cannot be written.
    """
    assert shop.run_folder is not None
    with shop.stage("gate card"):
        report = compose_report(shop, prepared, looked)
        write_gate_card(report, shop.run_folder / "gate_card.json")
        pictures = _pictures(report, looked, {record.image_id: record for record in prepared.records})
        page = render_gate_page(report, pictures=pictures, config_yaml=resolved_yaml(shop.config))
        write_atomic(shop.run_folder / CARD_PAGE, page)
    return report


def compose_report(shop: Workshop, prepared: Prepared, looked: Looked) -> GateReport:
    """Returns everything that the card says."""
    config = shop.config
    alphas = sorted({config.gate.alpha, *config.gate.card_alphas})
    records = {record.image_id: record for record in prepared.records}
    tried = [_tried(looked.gates[name], _test_images(looked, name)) for name in sorted(looked.gates)]
    places = localise(
        {name: _test_images(looked, name) for name in sorted(looked.gates)},
        num_bootstrap=config.evaluation.bootstrap,
        seed=config.seed,
    )
    categories = tuple(
        _category(shop, looked, one, records, alphas=alphas, localisation=places.categories[one.gate.category])
        for one in tried
    )
    return GateReport(
        title=config.name,
        subtitle=(
            f"{config.dataset.name}, protocol {prepared.manifest.protocol}, detector {config.detector.name} on "
            f"{config.detector.backbone}, seed {config.seed}"
        ),
        alpha=config.gate.alpha,
        guaranteed=not any(gate.scheme.transductive for gate in looked.gates.values()),
        notices=tuple(
            notices(
                categories,
                policy=config.gate.policy,
                allowed=[one.text for one in prepared.allowed_findings],
                rehearsal=config.rehearsal,
            )
        ),
        settings=_settings(shop),
        config_hash=config_hash(config),
        rows=tuple(overall_row(tried, alpha) for alpha in alphas),
        image_auroc=_auroc(shop, prepared.records, looked.test),
        localisation=places.overall,
        categories=categories,
    )


def _settings(shop: Workshop) -> dict[str, str]:
    detector, gate = shop.config.detector, shop.config.gate
    return {
        "detector": f"{detector.name}, {'one for all categories' if detector.shared else 'one for each category'}",
        "backbone": f"{detector.backbone}, layers {', '.join(detector.layers)}",
        "input": f"{detector.input_height_px} x {detector.input_width_px} pixels (height x width)",
        "false-alarm rate asked for": f"{100 * gate.alpha:g} %; of training samples {100 * gate.training_alpha:g} %",
        "normal pixels above the map's threshold": f"{100 * gate.pixel_alpha:g} %",
        "policy": gate.policy,
        "level of the drift test": f"{100 * gate.drift_level:g} %",
    }


def _test_images(looked: Looked, category: str) -> list[GatedImage]:
    return [image for image in looked.test if image.record.category == category]


def normal_parts(images: Sequence[GatedImage]) -> Scores:
    """Returns one score for each normal part: that of its most anomalous view."""
    chosen = [image for image in images if not image.record.gt_label]
    scores = np.array([image.detection.anomaly_score for image in chosen], dtype=np.float64)
    return part_scores(scores, part_numbers([image.record.group_id for image in chosen]))


def _tried(gate: CalibratedGate, images: Sequence[GatedImage]) -> TriedGate:
    defects = [image.detection.anomaly_score for image in images if image.record.gt_label]
    return TriedGate(gate=gate, normals=normal_parts(images), defects=np.array(defects, dtype=np.float64))


def _category(
    shop: Workshop,
    looked: Looked,
    tried: TriedGate,
    records: Mapping[str, ImageRecord],
    *,
    alphas: Sequence[float],
    localisation: LocalisationScores,
) -> CategoryGate:
    gate, found = tried.gate, looked.detections[tried.gate.category]
    images = _test_images(looked, gate.category)
    promise, level = gate.guarantee, shop.config.gate.drift_level
    calibration = [records[image_id] for image_id in found.calibration_ids]
    num_normals = sum(not image.record.gt_label for image in images)
    several = gate.num_calibration < len(calibration) or tried.normals.size < num_normals
    return CategoryGate(
        category=gate.category,
        unit="parts" if several else "images",
        calibration=gate.scheme.kind,
        num_calibration=gate.num_calibration,
        num_calibration_images=len(calibration),
        image_threshold=gate.image_threshold,
        pixel_threshold=gate.pixel_threshold,
        guarantee=promise.text if promise else "No guarantee holds: the detector is transductive.",
        rows=tuple(alpha_row(tried, alpha) for alpha in alphas),
        reach=tuple(reach(gate.num_calibration, alpha) for alpha in REACH_ALPHAS),
        image_auroc=_auroc(shop, list(records.values()), images),
        localisation=localisation,
        drift=detect_drift(tried.normals, gate.calibration_array(), level=level) if tried.normals.size else None,
        suspects=_suspects(gate, calibration),
        images=_judged(gate, calibration, images),
        detector_hash=gate.detector_hash,
        seconds_per_image=found.seconds_per_image,
    )


def _suspects(gate: CalibratedGate, calibration: Sequence[ImageRecord]) -> tuple[SuspectImage, ...]:
    return tuple(
        SuspectImage(
            image_id=calibration[one.index].image_id,
            image_path=str(calibration[one.index].image_path),
            anomaly_score=one.anomaly_score,
            p_value=one.p_value,
        )
        for one in find_outliers(np.array(gate.calibration_scores, dtype=np.float64))
    )


def _judged(
    gate: CalibratedGate, calibration: Sequence[ImageRecord], images: Sequence[GatedImage]
) -> tuple[JudgedImage, ...]:
    rows = [
        JudgedImage(
            image_id=record.image_id,
            group_id=record.group_id,
            defect_type=record.defect_type,
            use="calibration",
            anomaly_score=score,
            p_value=None,
        )
        for record, score in zip(calibration, gate.calibration_scores, strict=True)
    ]
    rows += [
        JudgedImage(
            image_id=image.record.image_id,
            group_id=image.record.group_id,
            defect_type=image.record.defect_type,
            use="test",
            anomaly_score=image.detection.anomaly_score,
            p_value=image.decision.p_value,
        )
        for image in images
    ]
    return tuple(sorted(rows, key=lambda row: row.image_id))


def _auroc(shop: Workshop, records: Sequence[ImageRecord], images: Sequence[GatedImage]) -> Score:
    """Returns the mean over categories of the AUROC, by images."""
    if not images:
        return Score.undefined(UNTESTED_NORMALS)
    types = {name: {one.defect_type for one in records if one.category == name} for name in _names(images)}
    sets = {name: sorted(kinds - {NORMAL_DEFECT_TYPE}) for name, kinds in types.items()}
    table = make_table([_as_prediction(image) for image in images], label_sets=sets)
    weights = stratified_weights(table.strata, num_bootstrap=shop.config.evaluation.bootstrap, seed=shop.config.seed)
    return image_auroc(table, weights)


def _names(images: Sequence[GatedImage]) -> list[str]:
    return sorted({image.record.category for image in images})


def _as_prediction(image: GatedImage) -> Prediction:
    """Returns the gate's word alone, as if the language model had been asked nothing."""
    return Prediction(
        image_id=image.record.image_id,
        category=image.record.category,
        group=image.group,
        gt_defect_type=image.record.defect_type,
        anomaly_score=image.detection.anomaly_score,
        p_value=image.decision.p_value,
        pred_label=image.decision.pred_label,
        gate_policy=image.decision.policy,
        option_log_likelihoods={},
        pred_defect_type=None if image.decision.pred_label else NORMAL_DEFECT_TYPE,
        response="",
        region_boxes_xyxy=(),
        seconds={},
        hashes={},
    )


def _pictures(report: GateReport, looked: Looked, records: Mapping[str, ImageRecord]) -> dict[str, tuple[Picture, ...]]:
    """Returns the pictures of every image that the page shows."""
    return {
        image.image_id: _pictures_of(
            records[image.image_id],
            looked.detections[category.category].detections[image.image_id],
            pixel_threshold=category.pixel_threshold,
        )
        for category in report.categories
        for images in shown_images(category).values()
        for image in images
    }


def _pictures_of(record: ImageRecord, detection: Detection, *, pixel_threshold: float) -> tuple[Picture, ...]:
    """Returns the image, its anomaly map (clear below half-way from its median to the threshold), and any outline."""
    image = read_rgb(record.image_path)
    small = thumbnail(image, max_side_px=PICTURE_SIDE_PX)
    reach_up = max(pixel_threshold - float(np.median(detection.anomaly_map)), 1e-6 * abs(pixel_threshold) + 1e-12)
    overlay = heatmap_overlay(
        small,
        detection.anomaly_map,
        low=pixel_threshold - reach_up / 2,
        high=pixel_threshold + reach_up / 2,
    )
    pictures = [
        Picture(rgb=small, alt="the inspected image", caption="image"),
        Picture(rgb=overlay, alt="the same with the detector's anomaly map laid over it", caption="anomaly map"),
    ]
    if record.gt_mask_paths and record.gt_label:
        gt_mask = read_gt_masks(record.gt_mask_paths, size_hw=record.size_hw)
        outlined = outlined_thumbnail(image, gt_mask, max_side_px=PICTURE_SIDE_PX)
        pictures.append(Picture(rgb=outlined, alt="the same with the defect outlined", caption="true outline"))
    return tuple(pictures)
