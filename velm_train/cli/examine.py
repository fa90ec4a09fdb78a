"""From a trained adapter to predictions: the tuned model and every row that stands beside it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from velm_train.cli.build_data import label_sets
from velm_train.cli.build_model import make_model, make_renderer
from velm_train.cli.instruct import Material, collator
from velm_train.cli.prepare import Looked, Prepared
from velm_train.cli.teach import Taught
from velm_train.cli.workshop import Workshop
from velm_train.collation.collate import ViewFeatures
from velm_train.collation.render import PromptRenderer
from velm_train.core.artifacts import StageKey
from velm_train.core.hashing import sha256_json
from velm_train.core.records import InstructionSample, Prediction, View
from velm_train.core.scores import Scoreboard
from velm_train.evaluation.baselines import (
    LinearProbe,
    NearestPrototype,
    baseline_predictions,
    fit_linear_probe,
    fit_prototypes,
    pool,
)
from velm_train.evaluation.controls import blank_lookup, grey_features, stratified_part
from velm_train.evaluation.gated import GatedImage as AskedImage
from velm_train.evaluation.gated import make_question, without_pictures
from velm_train.evaluation.runner import OptionScorer, run_evaluation
from velm_train.metrics.scoreboard import System, make_scoreboard
from velm_train.metrics.system import (
    MAJORITY_ROW,
    PERFECT_GATE_ROW,
    majority_predictions,
    perfect_gate_majority_predictions,
)
from velm_train.models.embedded.embedded import EmbeddedVLM
from velm_train.pipeline.looking import GatedImage
from velm_train.reporting.predictions import PredictionWriter, read_predictions

PREDICTIONS_VERSION = 1
_FILE_NAME = "predictions.jsonl"
RUN_ROW = "velm_train"
ROW_NAMES = {
    "look_twice_off": "second look taken away",
    "untuned": "same MLLM before tuning",
    "image_blind": "image-blind (grey picture)",
    "linear_probe": "linear probe",
    "prototype": "nearest prototype",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Examined:
    """Scores of every row.

    Attributes:
        predictions: of the run itself, one row an image.
    """

    scoreboard: Scoreboard
    predictions: tuple[Prediction, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asker:
    """Asks one model about images and keeps the rows as an artefact."""

    shop: Workshop
    inputs: Mapping[str, str]

    def rows(
        self, name: str, images: Sequence[AskedImage], *, scorer: OptionScorer, model_hash: str
    ) -> list[Prediction]:
        """Returns one row an image; an interrupted evaluation continues where it stopped."""
        asked = {image.image_id: [question.key for question in image.questions] for image in images}
        key = StageKey(
            stage="predictions",
            version=PREDICTIONS_VERSION,
            inputs={**self.inputs, "model": model_hash, "row": name, "questions": sha256_json(asked)},
            settings={"dtype": self.shop.config.model.dtype},
        )
        hashes = {"model": model_hash, "row": key.key, **self.inputs}

        def build(folder: Path) -> None:
            writer = PredictionWriter(folder / _FILE_NAME)
            with writer:
                if writer.resumed:
                    self.shop.progress.note(f"ask: {name}: continued behind {len(writer.resumed)} rows")

                def keep(rows: Sequence[Prediction]) -> None:
                    for row in rows:
                        writer.append(row)

                run_evaluation(
                    images,
                    scorer=scorer,
                    hashes=hashes,
                    on_rows=keep,
                    done={row.image_id for row in writer.resumed},
                    progress=self.shop.progress,
                    title=f"ask: {name}",
                )
            writer.finish()

        folder = self.shop.store.get_or_build(key, build, title=f"predictions of {name}")
        return read_predictions(folder / _FILE_NAME)


def examine(shop: Workshop, prepared: Prepared, looked: Looked, material: Material, taught: Taught) -> Examined:
    """Scores the tuned model and the rows beside it on the same images behind the same gate."""
    config = shop.config
    inputs = {
        "split": prepared.manifest.sha256,
        "gates": sha256_json({name: gate.to_json() for name, gate in looked.gates.items()}),
        "material": material.identity,
        "policy": config.gate.policy,
    }
    asker = _Asker(shop=shop, inputs=inputs)
    images = _asked(looked, material, taught, renderer=taught.renderer)
    with shop.stage("ask the tuned model"), taught.model.merged_for_inference():
        scorer = _scorer(shop, taught.model, renderer=taught.renderer, features=taught.features)
        own = asker.rows(RUN_ROW, images, scorer=scorer, model_hash=taught.adapter_key)
    systems = [System(name=RUN_ROW, predictions=own)]
    with shop.stage("ask the control rows"):
        for name in config.evaluation.baselines:
            systems += _control_row(shop, name, asker, images, looked, material, taught)
    labels = label_sets(prepared.taxonomy, [image.record for image in looked.test])
    systems += [
        System(
            name=PERFECT_GATE_ROW, predictions=perfect_gate_majority_predictions(own, label_sets=labels), trivial=True
        ),
        System(name=MAJORITY_ROW, predictions=majority_predictions(own, label_sets=labels), trivial=True),
    ]
    with shop.stage("score"):
        scoreboard = make_scoreboard(
            systems,
            label_sets=labels,
            num_bootstrap=config.evaluation.bootstrap,
            seed=config.seed,
            unknown_types=prepared.manifest.unknown_types,
        )
    return Examined(scoreboard=scoreboard, predictions=tuple(own))


def _asked(looked: Looked, material: Material, taught: Taught, *, renderer: PromptRenderer) -> list[AskedImage]:
    return [_asked_image(image, looked, material, taught, renderer=renderer) for image in looked.test]


def _asked_image(
    image: GatedImage, looked: Looked, material: Material, taught: Taught, *, renderer: PromptRenderer
) -> AskedImage:
    record = image.record
    regions = material.questions[record.image_id] if image.decision.pred_label else []
    samples = [(number, sample) for number, orders in enumerate(regions) for sample in orders]
    views = {id(view): view for number, orders in enumerate(regions) for view in orders[0].views}
    seconds = {"detect": looked.detections[record.category].seconds_per_image}
    if samples:
        seconds["encode"] = sum(taught.features.seconds(view) for view in views.values())
    return AskedImage(
        image_id=record.image_id,
        category=record.category,
        group=image.group,
        gt_defect_type=record.defect_type,
        anomaly_score=image.detection.anomaly_score,
        decision=image.decision,
        regions=image.regions,
        questions=tuple(make_question(sample, renderer=renderer, region_index=number) for number, sample in samples),
        seconds=seconds,
    )


def _scorer(
    shop: Workshop, model: EmbeddedVLM, *, renderer: PromptRenderer, features: Callable[[View], ViewFeatures]
) -> OptionScorer:
    return OptionScorer(
        model=model,
        collate=collator(shop, renderer=renderer, features=features),
        batch_size=shop.config.evaluation.batch_size,
        device=torch.device("cpu"),
    )


def _control_row(
    shop: Workshop,
    name: str,
    asker: _Asker,
    images: Sequence[AskedImage],
    looked: Looked,
    material: Material,
    taught: Taught,
) -> list[System]:
    """Returns the rows of one baseline; none where it makes no sense for this model."""
    title = ROW_NAMES[name]
    if name in {"linear_probe", "prototype"}:
        rows = _classifier_rows(shop, name, images, material, taught, inputs=asker.inputs)
        return [System(name=title, predictions=rows)]
    if name == "look_twice_off":
        if taught.model.look_twice is None:
            return []
        return [_without_second_look(shop, title, asker, looked, material, taught)]
    part = stratified_part(images, max_flagged=shop.config.evaluation.max_control_images, seed=shop.config.seed)
    note = "" if len(part) == len(images) else "a stratified part of the flagged images, to save time"
    if name == "image_blind":
        blank = blank_lookup(grey_features(taught.model, size_hw=(128, 160)))
        scorer = _scorer(shop, taught.model, renderer=taught.renderer, features=blank)
        rows = asker.rows(title, without_pictures(images), scorer=scorer, model_hash=f"{taught.adapter_key}-blind")
        return [System(name=title, predictions=rows)]
    fresh = make_model(shop.config, assets=shop.assets)
    scorer = _scorer(shop, fresh, renderer=taught.renderer, features=taught.features)
    rows = asker.rows(title, part, scorer=scorer, model_hash=f"{fresh.identity}-untuned-{shop.config.seed}")
    return [System(name=title, predictions=rows, subset_note=note)]


def _without_second_look(
    shop: Workshop, title: str, asker: _Asker, looked: Looked, material: Material, taught: Taught
) -> System:
    """Asks the same weights with the second-look tokens taken out of the prompt."""
    with taught.model.first_look_only(), taught.model.merged_for_inference():
        renderer = make_renderer(taught.model, assets=shop.assets)
        images = _asked(looked, material, taught, renderer=renderer)
        part = stratified_part(images, max_flagged=shop.config.evaluation.max_control_images, seed=shop.config.seed)
        scorer = _scorer(shop, taught.model, renderer=renderer, features=taught.features)
        rows = asker.rows(title, part, scorer=scorer, model_hash=f"{taught.adapter_key}-first-look")
    note = "" if len(part) == len(images) else "a stratified part of the flagged images, to save time"
    return System(name=title, predictions=rows, subset_note=note)


def _classifier_rows(
    shop: Workshop,
    name: str,
    images: Sequence[AskedImage],
    material: Material,
    taught: Taught,
    *,
    inputs: Mapping[str, str],
) -> list[Prediction]:
    """Fits one classifier over all training crops and names every flagged image with it."""
    crops = {
        (view.image_id, view.box_xyxy): (view, sample.provenance["answer_defect_type"])
        for sample in material.samples
        for view in sample.views
        if view.kind == "crop"
    }
    features = np.stack([pool(taught.features(view)) for view, _ in crops.values()])
    types = [answer for _, answer in crops.values()]
    groups = [image_id for image_id, _ in crops]
    classifier: LinearProbe | NearestPrototype
    if name == "linear_probe":
        classifier = fit_linear_probe(features, types, groups=groups, seed=shop.config.seed)
    else:
        classifier = fit_prototypes(features, types)
    test = {
        image_id: np.stack([pool(taught.features(_crop_of(orders[0]))) for orders in regions])
        for image_id, regions in material.questions.items()
    }
    return baseline_predictions(
        images,
        features=test,
        classifiers=dict.fromkeys({image.category for image in images}, classifier),
        hashes={**inputs, "model": name},
    )


def _crop_of(question: InstructionSample) -> View:
    """Returns the view a classifier looks at: the crop, or the last view where the question shows none."""
    crops = [view for view in question.views if view.kind == "crop"]
    return crops[0] if crops else question.views[-1]
