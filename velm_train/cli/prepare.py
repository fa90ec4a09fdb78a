"""From the dataset to gated images: read, split, detect, calibrate, look."""

import dataclasses
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from velm_train.cli.audit import refuse_leaks, refuse_leaks_of_folders, split_with_allowed
from velm_train.cli.build_data import datasets_of, joint_taxonomy, make_manifest
from velm_train.cli.build_detector import make_detector
from velm_train.cli.nothing_left import require_flagged_defects
from velm_train.cli.read_data import read_records
from velm_train.cli.workshop import Workshop
from velm_train.config import Config
from velm_train.core.artifacts import write_atomic
from velm_train.core.audit import Finding
from velm_train.core.errors import DataError, LeakError
from velm_train.core.records import GatePolicy, ImageRecord, Role
from velm_train.core.taxonomy import Taxonomy
from velm_train.datasets.protocols import SplitManifest
from velm_train.gating.gate import CalibratedGate
from velm_train.pipeline.detection import CategoryDetections, detect_categories
from velm_train.pipeline.looking import (
    GatedImage,
    RegionSettings,
    calibrate_gates,
    look,
)
from velm_train.pipeline.reach import require_reach
from velm_train.regions.extract import Binarisation

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """The dataset with every image's role.

    Attributes:
        taxonomy: of every type that has images, several types of one image joined.
        taught: the same without the types that the protocol keeps unknown; closed lists are made of it.
        allowed_findings: leaks that the audit found and the user allows.
    """

    records: tuple[ImageRecord, ...]
    roles: dict[str, Role]
    manifest: SplitManifest
    taxonomy: Taxonomy
    taught: Taxonomy
    unseen: tuple[str, ...]
    allowed_findings: tuple[Finding, ...] = ()

    def group(self, category: str) -> str:
        """Returns the scoreboard group of a category."""
        return "unseen" if category in self.unseen else "seen"


@dataclass(frozen=True, kw_only=True, slots=True)
class Looked:
    """Every image after the gate.

    Attributes:
        gates: at `gate.alpha`, which judge the test images.
        training: flagged and stopped images that training may learn from, at `gate.training_alpha`.
        test: images to be scored.
        references: category -> normal images kept as references.
    """

    detections: dict[str, CategoryDetections]
    gates: dict[str, CalibratedGate]
    training: tuple[GatedImage, ...]
    test: tuple[GatedImage, ...]
    references: dict[str, list[ImageRecord]]


def prepare(shop: Workshop) -> Prepared:
    """Reads the dataset and gives every image its role.

    Raises:
        DataError: if the dataset, the taxonomy or the split is not as it has to be, or the audit finds a leak that is
            not allowed.
    """
    with shop.stage("read data"):
        records = [
            record
            for dataset in datasets_of(shop.config)
            for record in read_records(dataset, assets=shop.assets, store=shop.store, progress=shop.progress).records
        ]
        try:
            prepared = give_roles(shop, records)
        except LeakError:
            refuse_leaks_of_folders(shop, records)
            raise
    with shop.stage("audit"):
        report = refuse_leaks(shop, records, prepared.roles)
    return dataclasses.replace(prepared, allowed_findings=report.allowed)


def give_roles(shop: Workshop, records: Sequence[ImageRecord]) -> Prepared:
    """Gives every image its role and keeps the split in the run folder.

    Raises:
        DataError: if the taxonomy or the split is not as it has to be.
    """
    taxonomy = joint_taxonomy(datasets_of(shop.config), records)
    manifest = split(shop, records)
    taxonomy = taxonomy.with_joint(manifest.joint_types())
    roles = {entry.image_id: entry.role for entry in manifest.entries}
    shop.progress.note(
        f"{len(roles)} images have a role in protocol {manifest.protocol}, {len(manifest.left_out)} are left out"
    )
    if shop.run_folder is not None:
        manifest.save(shop.run_folder / "split.json")
    return Prepared(
        records=tuple(record for record in records if record.image_id in roles),
        roles=roles,
        manifest=manifest,
        taxonomy=taxonomy,
        taught=taxonomy.without(manifest.unknown_types),
        unseen=manifest.unseen_categories,
    )


def split(shop: Workshop, records: Sequence[ImageRecord]) -> SplitManifest:
    """Returns the role of every image in the protocol; nothing is written.

    Raises:
        DataError: if the images do not suffice for the protocol, or a leak is found.
    """
    # a published split gives every image its role by number and pins its true hash: nothing may be loosened there
    allow = shop.config.audit.allow if shop.config.protocol.published is None else ()
    return split_with_allowed(records, allow, make=lambda some: make_manifest(shop.config, records=some))


def look_at(shop: Workshop, prepared: Prepared) -> Looked:
    """Detects, calibrates the gates and decides about every training and test image.

    Raises:
        GateError: if alpha is below what the normals allow, or nothing is left to train on.
    """
    config = shop.config
    require_reach(prepared.records, prepared.roles, alpha=config.gate.alpha)
    with shop.stage("detect"):
        detections = detect_categories(
            store=shop.store,
            records=prepared.records,
            roles=prepared.roles,
            make_detector=make_detector(config, assets=shop.assets),
            shared=config.detector.shared,
            progress=shop.progress,
        )
    with shop.stage("calibrate gates"):
        gates, training_gates = (
            calibrate_gates(
                store=shop.store,
                detections=detections,
                group_ids={record.image_id: record.group_id for record in prepared.records},
                num_folds=config.detector.num_folds,
                alpha=alpha,
                pixel_alpha=config.gate.pixel_alpha,
                allow_transductive=config.gate.allow_transductive,
            )
            for alpha in (config.gate.alpha, config.gate.training_alpha)
        )
    with shop.stage("find regions"):
        training = look_all(shop, prepared, detections, training_gates, roles=("train",))
        test = look_all(shop, prepared, detections, gates, roles=("test",))
    seen_training = tuple(image for image in training if image.group == "seen")
    if any(prepared.roles[record.image_id] == "train" and record.gt_label for record in prepared.records):
        require_flagged_defects(seen_training, gate=config.gate)
    if not test:
        raise DataError("the protocol leaves no test image; lower protocol.k_shot or add images")
    references: dict[str, list[ImageRecord]] = {}
    for record in prepared.records:
        if prepared.roles[record.image_id] == "reference":
            references.setdefault(record.category, []).append(record)
    looked = Looked(detections=detections, gates=gates, training=seen_training, test=tuple(test), references=references)
    _report_gates(shop, looked)
    return looked


def region_settings(config: Config) -> RegionSettings:
    """Returns how regions are cut from a map."""
    regions = config.regions
    return RegionSettings(
        binarisation=cast("Binarisation", regions.binarisation),
        min_area_px=regions.min_area_px,
        merge_distance_px=regions.merge_distance_px,
        max_regions=regions.max_regions,
        diffuse_fraction=regions.diffuse_fraction,
    )


def look_all(
    shop: Workshop,
    prepared: Prepared,
    detections: dict[str, CategoryDetections],
    gates: dict[str, CalibratedGate],
    *,
    roles: Sequence[Role],
) -> list[GatedImage]:
    """Decides about every image of the given roles; those that the detector cannot judge are left out, with a note."""
    settings = region_settings(shop.config)
    wanted = [record for record in prepared.records if prepared.roles[record.image_id] in roles]
    found = {record.image_id: detections[record.category].detections[record.image_id] for record in wanted}
    judged = [record for record in wanted if found[record.image_id].out_of_sample]
    if len(judged) < len(wanted):
        logger.warning(
            "%d good images that the detector was fitted on cannot be judged and give no training sample",
            len(wanted) - len(judged),
        )
    return [
        look(
            record,
            found[record.image_id],
            gates[record.category],
            role=prepared.roles[record.image_id],
            group=prepared.group(record.category),
            policy=cast("GatePolicy", shop.config.gate.policy),
            settings=settings,
        )
        for record in judged
    ]


def _report_gates(shop: Workshop, looked: Looked) -> None:
    """Notes in one line what the gate did, and keeps the gates in the run folder."""
    defects = [image for image in looked.training if image.record.gt_label]
    normals = [image for image in looked.training if not image.record.gt_label]
    passed, alarms = (sum(image.decision.pred_label for image in part) for part in (defects, normals))
    shop.progress.note(
        f"training: {passed} of {len(defects)} labelled defects are flagged, {alarms} of {len(normals)} normals are "
        f"false alarms at training_alpha={shop.config.gate.training_alpha} and become 'no defect' samples"
    )
    if passed < len(defects):
        logger.warning("%d labelled defects are not flagged and cannot be learned from", len(defects) - passed)
    if shop.run_folder is not None:
        content = {name: gate.to_json() for name, gate in looked.gates.items()}
        write_atomic(shop.run_folder / "gates.json", json.dumps(content, indent=1, sort_keys=True))
