"""From gated images to a trained adapter: samples, features, alignment, LoRA."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from pytorch_lightning.loggers import Logger
from safetensors.torch import load_file, save_file

from velm_train.cli.build import (
    adapter_optimisation,
    alignment_optimisation,
    make_engine,
    make_model,
    make_renderer,
    option_sampling,
    question_views,
    task_mix,
    training_settings,
    wording,
)
from velm_train.cli.prepare import Looked, Prepared
from velm_train.cli.workshop import Workshop
from velm_train.collation.collate import collate, require_fits, view_anomalous_by_answer
from velm_train.collation.render import EncodedSample, PromptRenderer
from velm_train.core.artifacts import StageKey
from velm_train.core.batch import Batch
from velm_train.core.errors import GateError
from velm_train.core.hashing import sha256_json
from velm_train.core.records import GatePolicy, InstructionSample
from velm_train.instructions.store import sample_to_json, write_samples
from velm_train.models.embedded.embedded import EmbeddedVLM
from velm_train.pipeline.features import FeatureReader, MapSource, build_features
from velm_train.pipeline.looking import GatedImage
from velm_train.pipeline.samples import CropSettings, findings_of, questions_by_image, training_samples, views_in
from velm_train.training.alignment import AlignmentLoss, Vocabulary, make_vocabulary
from velm_train.training.datamodule import SampleDataModule
from velm_train.training.fit import AlignmentParts, FitSummary, RunOutput, fit_adapter, fit_alignment
from velm_train.training.losses import balanced_pos_weight
from velm_train.training.sources import alignment_facts, alignment_items, collate_alignment, facts_of

INSTRUCTIONS_VERSION = 1
ALIGNMENT_VERSION = 1
ADAPTER_VERSION = 1
_ALIGNED_NAME = "aligned.safetensors"
_CHECKPOINT_NAME = "last.ckpt"


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Taught:
    """A model with its trained adapter.

    Attributes:
        adapter_folder: PEFT adapter, projector and look-twice weights.
        adapter_key: of the artefact; part of every prediction's hashes.
        summary: of the training run, or None if a finished one was reused.
    """

    model: EmbeddedVLM
    renderer: PromptRenderer
    features: FeatureReader
    adapter_folder: Path
    adapter_key: str
    summary: FitSummary | None


def instruct(shop: Workshop, prepared: Prepared, looked: Looked) -> Material:
    """Builds training samples from what the detector flagged, and the questions for the test images.

    Raises:
        GateError: if no training sample is left.
    """
    config = shop.config
    with shop.stage("build instructions"):
        findings = [finding for image in looked.training for finding in _findings(shop, looked, image, labelled=True)]
        built = training_samples(
            findings,
            taxonomy=prepared.taxonomy,
            tasks=task_mix(config),
            options=option_sampling(config),
            wording=wording(config),
            seed=config.seed,
        )
        questions = questions_by_image(
            [finding for image in looked.test for finding in _findings(shop, looked, image, labelled=True)],
            taxonomy=prepared.taxonomy,
            views=question_views(config),
            num_option_orders=config.evaluation.option_orders,
            with_descriptions=config.instructions.with_descriptions,
            seed=config.seed,
        )
    if not built.kept:
        raise GateError("no training sample is left after gating; raise gate.training_alpha or protocol.k_shot")
    maps = {name: [gate.detector_hash, gate.pixel_threshold] for name, gate in looked.gates.items()}
    identity = sha256_json({"samples": [sample_to_json(sample) for sample in built.kept], "maps": maps})
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


def _findings(shop: Workshop, looked: Looked, image: GatedImage, *, labelled: bool) -> list[Any]:
    config = shop.config
    return list(
        findings_of(
            image,
            references=looked.references,
            crops=CropSettings(
                margin_fraction=config.regions.crop_margin_fraction, min_size_px=config.regions.crop_min_px
            ),
            gate_policy=cast("GatePolicy", config.gate.policy),
            seed=config.seed,
            labelled=labelled,
        )
    )


def encode(shop: Workshop, looked: Looked, material: Material, *, model: EmbeddedVLM) -> FeatureReader:
    """Runs the frozen towers over every view of the training samples and the test questions, once."""
    sources = {
        image_id: MapSource(detection=detection, gate=looked.gates[category])
        for category, found in looked.detections.items()
        for image_id, detection in found.detections.items()
    }
    test = [sample for regions in material.questions.values() for orders in regions for sample in orders]
    views: dict[str, list[Any]] = {}
    for purpose, samples in (("training", material.samples), ("test", tuple(test))):
        for sample in samples:
            views.setdefault(f"{sample.category}, {purpose}", []).extend(views_in([sample]))
    with shop.stage("encode views"):
        return build_features(
            store=shop.store,
            views=views,
            map_sources=sources,
            model=model,
            contour_width_px=shop.config.regions.contour_width_px,
            batch_size=shop.config.model.encode_batch_size,
            progress=shop.progress,
        )


def teach(
    shop: Workshop, prepared: Prepared, looked: Looked, material: Material, *, loggers: Sequence[Logger]
) -> Taught:
    """Aligns the projector, then tunes LoRA, projector and look-twice adapter; finished stages are reused."""
    model = make_model(shop.config, assets=shop.assets)
    renderer = make_renderer(model, assets=shop.assets)
    features = encode(shop, looked, material, model=model)
    with shop.stage("align"):
        alignment_key = _align(shop, prepared, material, model=model, renderer=renderer, features=features)
    with shop.stage("tune"):
        key, folder, summary = _tune(
            shop,
            material,
            model=model,
            renderer=renderer,
            features=features,
            alignment_key=alignment_key,
            loggers=loggers,
        )
    return Taught(
        model=model,
        renderer=renderer,
        features=features,
        adapter_folder=folder,
        adapter_key=key.key,
        summary=summary,
    )


def _vocabulary(prepared: Prepared, *, model: EmbeddedVLM, renderer: PromptRenderer) -> Vocabulary:
    names = [kind.display_name for one in prepared.taxonomy.categories.values() for kind in one.defect_types.values()]

    def tokenize(text: str) -> list[int]:
        ids: list[int] = renderer.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    return make_vocabulary(names, tokenize=tokenize, embedding=model.language_model.get_input_embeddings())


def _align(
    shop: Workshop,
    prepared: Prepared,
    material: Material,
    *,
    model: EmbeddedVLM,
    renderer: PromptRenderer,
    features: FeatureReader,
) -> str:
    """Trains and loads projector and adapter; returns the artefact's key, or "none" if the stage is skipped."""
    config = shop.config
    if config.alignment.max_steps == 0:
        return "none"
    vocabulary = _vocabulary(prepared, model=model, renderer=renderer)
    settings = config.alignment
    key = StageKey(
        stage="alignment",
        version=ALIGNMENT_VERSION,
        inputs={"material": material.identity, "model": model.identity, "words": list(vocabulary.words)},
        settings={
            "alignment": asdict(settings),
            "optimisation": alignment_optimisation(config),
            "look_twice": asdict(config.look_twice),
            "seed": config.seed,
        },
    )

    def build(folder: Path) -> None:
        items = alignment_items(
            material.samples,
            categories=prepared.taxonomy.categories,
            vocabulary=vocabulary,
            view_anomalous=view_anomalous_by_answer,
        )
        labels = [item.anomalous for item in items]
        rows, columns = model.token_grid_hw
        fit_alignment(
            AlignmentParts(projector=model.projector, look_twice=model.look_twice, vocabulary=vocabulary),
            SampleDataModule(
                alignment_facts(items, num_tokens=rows * columns),
                collate=lambda indices: collate_alignment([items[i] for i in indices], features=features),
                batch_size=settings.batch_size,
                balance="type",
                seed=config.seed,
            ),
            weights=AlignmentLoss(
                temperature=settings.temperature,
                second_look_weight=settings.second_look_weight,
                bce_weight=settings.bce_weight,
                pos_weight=balanced_pos_weight(labels.count(0.0), labels.count(1.0)),
            ),
            optimisation=alignment_optimisation(config),
            engine=make_engine(config),
            output=_output(shop, folder, title="align tokens with words", loggers=()),
        )
        save_file(_alignable(model), folder / _ALIGNED_NAME)
        (folder / _CHECKPOINT_NAME).unlink(missing_ok=True)  # the finished weights replace it

    folder = shop.store.get_or_build(key, build, title="alignment")
    _load_alignable(model, load_file(folder / _ALIGNED_NAME))
    return key.key


def _parts(model: EmbeddedVLM) -> dict[str, torch.nn.Module]:
    parts: dict[str, torch.nn.Module] = {"projector": model.projector}
    return parts if model.look_twice is None else parts | {"look_twice": model.look_twice}


def _alignable(model: EmbeddedVLM) -> dict[str, torch.Tensor]:
    return {
        f"{part}.{name}": tensor.detach().contiguous()
        for part, module in _parts(model).items()
        for name, tensor in module.state_dict().items()
    }


def _load_alignable(model: EmbeddedVLM, tensors: dict[str, torch.Tensor]) -> None:
    for part, module in _parts(model).items():
        prefix = f"{part}."
        module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})


def _output(shop: Workshop, folder: Path, *, title: str, loggers: Sequence[Logger]) -> RunOutput:
    return RunOutput(
        folder=folder,
        checkpoint_every=shop.config.trainer.checkpoint_every,
        loggers=loggers,
        progress=shop.progress,
        title=title,
    )


def collator(
    shop: Workshop, *, renderer: PromptRenderer, features: Callable[[Any], Any]
) -> Callable[[Sequence[EncodedSample]], Batch]:
    """Returns what turns encoded samples into a batch, with the evidence that `features` gives."""
    pad_token_id = renderer.tokenizer.pad_token_id

    def collate_samples(encoded: Sequence[EncodedSample]) -> Batch:
        return collate(
            encoded,
            features=features,
            pad_token_id=pad_token_id,
            view_anomalous=view_anomalous_by_answer,
            max_tokens=shop.config.instructions.max_tokens,
        )

    return collate_samples


def _tune(
    shop: Workshop,
    material: Material,
    *,
    model: EmbeddedVLM,
    renderer: PromptRenderer,
    features: FeatureReader,
    alignment_key: str,
    loggers: Sequence[Logger],
) -> tuple[StageKey, Path, FitSummary | None]:
    config = shop.config
    key = StageKey(
        stage="adapters",
        version=ADAPTER_VERSION,
        inputs={"material": material.identity, "model": model.identity, "alignment": alignment_key},
        settings={
            "training": training_settings(config),
            "lora": asdict(config.lora),
            "look_twice": asdict(config.look_twice),
        },
    )
    summaries: list[FitSummary] = []

    def build(folder: Path) -> None:
        encoded = [renderer.encode(sample) for sample in material.samples]
        for sample in encoded:
            require_fits(sample, max_tokens=config.instructions.max_tokens)
        to_batch = collator(shop, renderer=renderer, features=features)
        labels = [value for sample in material.samples for value in view_anomalous_by_answer(sample)]
        summary = fit_adapter(
            model,
            SampleDataModule(
                [facts_of(sample, view_anomalous=view_anomalous_by_answer) for sample in encoded],
                collate=lambda indices: to_batch([encoded[i] for i in indices]),
                batch_size=config.trainer.batch_size,
                accumulate=config.trainer.accumulate,
                balance=cast("Any", config.trainer.balance),
                seed=config.seed,
            ),
            optimisation=adapter_optimisation(config),
            engine=make_engine(config),
            output=_output(shop, folder, title="tune LoRA and look-twice adapter", loggers=loggers),
            bce_weight=config.trainer.bce_weight,
            pos_weight=balanced_pos_weight(labels.count(0.0), labels.count(1.0)),
        )
        summaries.append(summary)
        model.save_adapter(folder / "adapter")
        (folder / _CHECKPOINT_NAME).unlink(missing_ok=True)  # the finished weights replace it

    folder = shop.store.get_or_build(key, build, title="adapter")
    model.load_adapter(folder / "adapter")
    return key, folder / "adapter", summaries[0] if summaries else None
