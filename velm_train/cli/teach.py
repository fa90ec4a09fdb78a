"""From samples and features to a trained adapter: alignment, then LoRA; finished stages are reused."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from velm_train.cli.align import CHECKPOINT_NAME, align, note_continued, run_output
from velm_train.cli.build_model import (
    adapter_optimisation,
    make_engine,
    make_model,
    make_renderer,
    max_tokens,
    training_settings,
)
from velm_train.cli.instruct import Material, collator, encode
from velm_train.cli.prepare import Looked, Prepared
from velm_train.cli.trainables import trainables_of, trainables_table
from velm_train.cli.visits import Visits, make_augmenter
from velm_train.cli.workshop import Workshop
from velm_train.collation.collate import require_fits, view_anomalous_by_answer
from velm_train.collation.render import PromptRenderer
from velm_train.core.artifacts import StageKey
from velm_train.models.build import BuiltModel
from velm_train.pipeline.features import FeatureReader, ground_truth_of
from velm_train.training.bundles import ALONE
from velm_train.training.datamodule import Rows, SampleDataModule
from velm_train.training.fit import FitSummary, fit_adapter
from velm_train.training.loggers import Logger
from velm_train.training.losses import balanced_pos_weight
from velm_train.training.summary import summary_line

ADAPTER_VERSION = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Taught:
    """A model with its trained adapter.

    Attributes:
        adapter_folder: PEFT adapter, projector and look-twice weights.
        adapter_key: of the artefact; part of every prediction's hashes.
        summary: of the training run, or None if a finished one was reused.
    """

    model: BuiltModel
    renderer: PromptRenderer
    features: FeatureReader
    adapter_folder: Path
    adapter_key: str
    summary: FitSummary | None


def teach(
    shop: Workshop, prepared: Prepared, looked: Looked, material: Material, *, loggers: Sequence[Logger]
) -> Taught:
    """Aligns the projector, then tunes LoRA, projector and look-twice adapter; finished stages are reused."""
    model = make_model(shop.config, assets=shop.assets)
    renderer = make_renderer(model, assets=shop.assets)
    _require_fit(material, renderer=renderer, longest=max_tokens(shop.config, model=model))
    _say_when_towers_run(shop)
    features = encode(shop, prepared, looked, material, model=model)
    with shop.stage("align"):
        alignment_key = align(shop, prepared, material, model=model, renderer=renderer, features=features)
    with shop.stage("tune"):
        key, folder, summary = _tune(
            shop,
            material,
            model=model,
            visits=Visits(
                material.samples,
                renderer=renderer,
                augmenter=make_augmenter(shop, prepared),
                to_batch=collator(shop, renderer=renderer, features=features),
            ),
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


def _say_when_towers_run(shop: Workshop) -> None:
    """Says why features that are stored, or not, cannot serve training."""
    trainer = shop.config.trainer
    reason = "trainer.feature_cache=off" if trainer.feature_cache == "off" else None
    if trainer.augmentation.active:
        reason = "trainer.augmentation shows it another way each time"
    if reason is not None:
        shop.progress.note(f"the frozen vision tower runs whenever training shows a view: {reason}")


def _require_fit(material: Material, *, renderer: PromptRenderer, longest: int) -> None:
    """Refuses samples and questions that are too long before anything is computed from them."""
    for sample in material.samples:
        require_fits(renderer.encode(sample), max_tokens=longest)
    for regions in material.questions.values():
        for question in (question for orders in regions for question in orders):
            require_fits(renderer.encode_prompt(question), max_tokens=longest)


def _tune(
    shop: Workshop,
    material: Material,
    *,
    model: BuiltModel,
    visits: Visits,
    features: FeatureReader,
    alignment_key: str,
    loggers: Sequence[Logger],
) -> tuple[StageKey, Path, FitSummary | None]:
    config = shop.config
    key = StageKey(
        stage="adapters",
        version=ADAPTER_VERSION,
        inputs={"material": material.identity, "model": model.identity, "alignment": alignment_key}
        | ground_truth_of(features),
        settings={
            "training": training_settings(config),
            "groups": sorted(model.trainable_groups()),
            "lora": asdict(config.lora),
            "look_twice": asdict(config.look_twice),
        },
    )
    summaries: list[FitSummary] = []
    trainables = trainables_of(shop, model)

    def build(folder: Path) -> None:
        shop.console.print(trainables_table(trainables))
        labels = [value for sample in material.samples for value in view_anomalous_by_answer(sample)]
        summary = fit_adapter(
            model,
            _feed(shop, visits),
            optimisation=adapter_optimisation(config),
            engine=make_engine(config),
            output=run_output(shop, folder, title="tune LoRA and look-twice adapter", loggers=loggers),
            bce_weight=config.trainer.bce_weight,
            mask_weight=config.look_twice.mask_weight,
            pos_weight=balanced_pos_weight(labels.count(0.0), labels.count(1.0)),
        )
        summaries.append(summary)
        note_continued(shop, "tuning", summary)
        shop.progress.note(summary_line(summary))
        model.save_adapter(folder / "adapter")
        (folder / CHECKPOINT_NAME).unlink(missing_ok=True)  # the finished weights replace it

    folder = shop.store.get_or_build(key, build, title="adapter", alone=config.trainer.devices == 1)
    model.load_adapter(folder / "adapter")
    return key, folder / "adapter", summaries[0] if summaries else None


def _feed(shop: Workshop, visits: Visits) -> SampleDataModule:
    """Returns what feeds the visits to training, in padded batches or in rows."""
    trainer = shop.config.trainer
    questions = trainer.questions_per_image
    facts = visits.facts(sharing=questions > 1)
    if questions > 1:
        num_sharing = sum(fact.prefix != ALONE for fact in facts)
        advice = "" if num_sharing else "; raise instructions.samples_per_region to have more asked about each"
        shop.progress.note(f"{num_sharing} of {len(facts)} training samples show views that others show, too{advice}")
    return SampleDataModule(
        facts,
        collate=visits,
        batch_size=trainer.batch_size,
        accumulate=trainer.accumulate,
        balance=cast("Any", trainer.balance),
        token_budget=trainer.token_budget,
        bucket_size=trainer.bucket_size,
        seed=shop.config.seed,
        hard_share=trainer.hard_share,
        rows=Rows(collate=visits.row, questions_per_image=questions) if trainer.packing == "on" else None,
    )
