"""From gated images to what the model is taught and asked: samples, questions, features, batches."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from velm_train.cli.build_engine import make_device
from velm_train.cli.build_model import (
    option_sampling,
    question_views,
    task_mix,
    wording,
)
from velm_train.cli.nothing_left import require_samples
from velm_train.cli.prepare import Looked, Prepared
from velm_train.cli.workshop import Workshop
from velm_train.collation.bundles import Collator
from velm_train.collation.collate import ViewFeatures, collate, view_anomalous_by_answer
from velm_train.collation.render import EncodedSample, PromptRenderer
from velm_train.core.artifacts import StageKey
from velm_train.core.batch import Batch, Bundle
from velm_train.core.hashing import sha256_json
from velm_train.core.records import GatePolicy, ImageRecord, InstructionSample, View
from velm_train.instructions.finding import Finding
from velm_train.instructions.store import sample_to_json, write_samples
from velm_train.models.build import BuiltModel
from velm_train.pipeline.cache_choice import FeatureCache
from velm_train.pipeline.features import FeatureReader, build_features
from velm_train.pipeline.live_features import ViewEncoder
from velm_train.pipeline.looking import GatedImage
from velm_train.pipeline.samples import CropSettings, findings_of, questions_by_image, training_samples, views_in
from velm_train.pipeline.views import MapSource

INSTRUCTIONS_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """What the model is taught and asked.

    Attributes:
        samples: training samples.
        questions: test image_id -> region -> option orders.
        dropped: training samples that could not be built, with the reason.
        identity: hash of the samples and of everything their features depend on, the model's towers excepted.
    """

    samples: tuple[InstructionSample, ...]
    questions: dict[str, list[list[InstructionSample]]]
    dropped: tuple[str, ...]
    identity: str


def instruct(shop: Workshop, prepared: Prepared, looked: Looked) -> Material:
    """Builds training samples from what the detector flagged, and the questions for the test images.

    Raises:
        GateError: if no training sample is left.
    """
    config = shop.config
    with shop.stage("build instructions"):
        findings = [finding for image in looked.training for finding in _findings(shop, looked, image)]
        built = training_samples(
            findings,
            taxonomy=prepared.taught,
            tasks=task_mix(config),
            options=option_sampling(config),
            wording=wording(config),
            seed=config.seed,
        )
        questions = ask_about(shop, prepared, looked)
    require_samples(built, training=looked.training, gate=config.gate)
    maps = {name: [gate.detector_hash, gate.pixel_threshold] for name, gate in looked.gates.items()}
    identity = sha256_json({"samples": [_content(sample) for sample in built.kept], "maps": maps})
    key = StageKey(stage="instructions", version=INSTRUCTIONS_VERSION, inputs={"samples": identity}, settings={})
    shop.store.get_or_build(
        key, lambda folder: write_samples(built.kept, folder / "instructions.jsonl"), title="instructions"
    )
    shop.progress.note(f"{len(built.kept)} training samples, {len(built.dropped)} dropped with a reason")
    return Material(
        samples=built.kept,
        questions=questions,
        dropped=tuple(f"{note.sample_id}: {note.reason}" for note in built.dropped),
        identity=identity,
    )


def ask_about(shop: Workshop, prepared: Prepared, looked: Looked) -> dict[str, list[list[InstructionSample]]]:
    """Returns the questions about the test images: image_id -> region -> option orders."""
    config = shop.config
    return questions_by_image(
        [finding for image in looked.test for finding in _findings(shop, looked, image)],
        taxonomy=prepared.taught,
        views=question_views(config),
        num_option_orders=config.evaluation.option_orders,
        with_descriptions=config.instructions.with_descriptions,
        seed=config.seed,
    )


def _findings(shop: Workshop, looked: Looked, image: GatedImage) -> list[Finding]:
    regions = shop.config.regions
    return findings_of(
        image,
        references=looked.references,
        crops=CropSettings(margin_fraction=regions.crop_margin_fraction, min_size_px=regions.crop_min_px),
        gate_policy=cast("GatePolicy", shop.config.gate.policy),
        seed=shop.config.seed,
        labelled=True,
    )


def _content(sample: InstructionSample) -> dict[str, Any]:
    """Returns a sample without the places of its files, which are no part of what is learned."""
    row = sample_to_json(sample)
    return row | {"views": [{name: view[name] for name in view if name != "image_path"} for view in row["views"]]}


def reads_ground_truth(shop: Workshop) -> bool:
    """Tells whether masks reach the model: as its second look, or as targets of the adapter's token scores."""
    return shop.config.look_twice.source == "oracle" or shop.config.look_twice.mask_weight > 0


def map_sources(looked: Looked, *, records: Mapping[str, ImageRecord]) -> dict[str, MapSource]:
    """Returns where the map scores of every image come from.

    Args:
        looked: detections and gates.
        records: image_id -> record of the images whose ground truth may be read.
    """
    return {
        image_id: MapSource(detection=detection, gate=looked.gates[category], gt_record=records.get(image_id))
        for category, found in looked.detections.items()
        for image_id, detection in found.detections.items()
    }


def encode(
    shop: Workshop, prepared: Prepared, looked: Looked, material: Material, *, model: BuiltModel
) -> FeatureReader:
    """Runs the frozen towers over every view of the training samples and the test questions, once.

    Views as they are are stored even if training shows them otherwise: alignment, probes and questions read them.

    Raises:
        DiskFullError: if they are to be stored in any case and the disk has no room for them.
    """
    records = {record.image_id: record for record in prepared.records} if reads_ground_truth(shop) else {}
    test = [sample for regions in material.questions.values() for orders in regions for sample in orders]
    views: dict[str, list[View]] = {}
    for purpose, samples in (("training", material.samples), ("test", tuple(test))):
        for sample in samples:
            views.setdefault(f"{sample.category}, {purpose}", []).extend(views_in([sample]))
    model.to(make_device(shop.config))
    trainer = shop.config.trainer
    with shop.stage("encode views"):
        return build_features(
            store=shop.store,
            views=views,
            encoder=ViewEncoder(
                tower=model,
                map_sources=map_sources(looked, records=records),
                contour_width_px=shop.config.regions.contour_width_px,
                batch_size=shop.config.model.encode_batch_size,
            ),
            cache=cast("FeatureCache", trainer.feature_cache),
            progress=shop.progress,
            any_view=trainer.augmentation.active,
        )


def collator(
    shop: Workshop, *, renderer: PromptRenderer, features: FeatureReader | Callable[[View], ViewFeatures]
) -> Collator:
    """Returns what turns encoded samples into a batch, with the evidence that `features` gives.

    A reader is told of all views of a batch at once, so that those which are not on disk are encoded together.
    """
    pad_token_id = renderer.tokenizer.pad_token_id

    def collate_samples(encoded: Sequence[EncodedSample], bundles: Sequence[Bundle] | None = None) -> Batch:
        views = views_in([one.sample for one in encoded])
        return collate(
            encoded,
            features=features.ahead(views) if isinstance(features, FeatureReader) else features,
            pad_token_id=pad_token_id,
            view_anomalous=view_anomalous_by_answer,
            max_tokens=shop.config.instructions.max_tokens,
            bundles=bundles,
        )

    return collate_samples
