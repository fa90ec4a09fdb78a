"""From samples and features to a trained adapter: alignment, then LoRA; finished stages are reused."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch

from velm_train.cli.align import align, run_output
from velm_train.cli.build_engine import make_engine, sharing_settings
from velm_train.cli.build_model import (
    adapter_optimisation,
    make_model,
    make_renderer,
    max_tokens,
    training_settings,
)
from velm_train.cli.checkpoints import (
    agreed_start,
    checkpoints_gone_if_pruned,
    clear_checkpoints,
    keeping_of,
    key_from_start,
    note_stage,
)
from velm_train.cli.choose_strategy import choose_strategy, optimisation_under
from velm_train.cli.hold_out import held_out_of, split_material
from velm_train.cli.instruct import Material, collator, encode
from velm_train.cli.prepare import Looked, Prepared
from velm_train.cli.trainables import trainables_of, trainables_table
from velm_train.cli.trial import prune_rule
from velm_train.cli.visits import Visits, make_augmenter
from velm_train.cli.workshop import Workshop
from velm_train.collation.collate import require_fits, view_anomalous_by_answer
from velm_train.collation.render import PromptRenderer
from velm_train.core.artifacts import StageKey
from velm_train.core.records import InstructionSample
from velm_train.models.build import BuiltModel
from velm_train.pipeline.features import FeatureReader, ground_truth_of
from velm_train.training.bundles import ALONE
from velm_train.training.datamodule import Rows, SampleDataModule
from velm_train.training.fit import FitSummary, fit_adapter
from velm_train.training.loggers import Logger
from velm_train.training.losses import balanced_pos_weight
from velm_train.training.strategies import SHARDING
from velm_train.training.summary import summary_line
from velm_train.training.validation import HeldOut

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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Lessons:
    """What is learned from, and what measures it."""

    material: Material
    visits: Visits
    held_out: HeldOut | None


def teach(
    shop: Workshop, prepared: Prepared, looked: Looked, material: Material, *, loggers: Sequence[Logger]
) -> Taught:
    """Aligns the projector, then tunes LoRA, projector and look-twice adapter; finished stages are reused."""
    model = make_model(shop.config, assets=shop.assets)
    renderer = make_renderer(model, assets=shop.assets)
    _require_fit(material, renderer=renderer, longest=max_tokens(shop.config, model=model))
    _say_when_towers_run(shop)
    learned, held_out = split_material(shop, prepared, material)
    features = encode(shop, prepared, looked, material, model=model)
    with shop.stage("align"):
        alignment_key = align(shop, prepared, learned, model=model, renderer=renderer, features=features)

    def visits(samples: Sequence[InstructionSample]) -> Visits:
        return Visits(
            samples,
            renderer=renderer,
            augmenter=make_augmenter(shop, prepared),
            to_batch=collator(shop, renderer=renderer, features=features),
        )

    with shop.stage("tune"):
        model, key, folder, summary = _tune(
            shop,
            _Lessons(
                material=learned,
                visits=visits(learned.samples),
                held_out=held_out_of(shop, held_out, visits=visits),
            ),
            model=model,
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
    lessons: _Lessons,
    *,
    model: BuiltModel,
    features: FeatureReader,
    alignment_key: str,
    loggers: Sequence[Logger],
) -> tuple[BuiltModel, StageKey, Path, FitSummary | None]:
    """Returns the model with its trained weights: the one given, or a new one where that is spread over devices."""
    config, material = shop.config, lessons.material
    start = agreed_start(shop)
    own_key = _adapter_key(shop, lessons, model=model, features=features, alignment_key=alignment_key)
    key = key_from_start(own_key, start)
    keeping = keeping_of(shop, key, start=start, validated=lessons.held_out is not None)
    note_stage(shop, key)
    summaries: list[FitSummary] = []
    trainables = trainables_of(shop, model)

    strategy = choose_strategy(shop, model, lessons.visits)

    def build(folder: Path) -> None:
        shop.console.print(trainables_table(trainables))
        labels = [value for sample in material.samples for value in view_anomalous_by_answer(sample)]
        with checkpoints_gone_if_pruned(shop, folder):
            summary = fit_adapter(
                model,
                _feed(shop, lessons.visits),
                optimisation=optimisation_under(strategy, adapter_optimisation(config)),
                engine=make_engine(config, strategy=strategy, rank=shop.rank),
                output=run_output(
                    shop,
                    folder,
                    title="tune LoRA and look-twice adapter",
                    loggers=loggers,
                    keeping=keeping,
                    prune=prune_rule(os.environ),
                ),
                held_out=lessons.held_out,
                bce_weight=config.trainer.bce_weight,
                mask_weight=config.look_twice.mask_weight,
                pos_weight=balanced_pos_weight(labels.count(0.0), labels.count(1.0)),
                on_trained=lambda trained: _with_weights(shop, trained).save_adapter(folder / "adapter"),
            )
        summaries.append(summary)
        shop.progress.note(summary_line(summary))
        if shop.rank.is_first and strategy not in SHARDING:
            model.save_adapter(folder / "adapter")
        clear_checkpoints(shop, folder)

    folder = shop.meeting.build_together(shop.store, key, build, title="adapter")
    if strategy in SHARDING and summaries:
        model = make_model(config, assets=shop.assets)
    model.load_adapter(folder / "adapter")
    return model, key, folder / "adapter", summaries[0] if summaries else None


def _adapter_key(
    shop: Workshop, lessons: _Lessons, *, model: BuiltModel, features: FeatureReader, alignment_key: str
) -> StageKey:
    config = shop.config
    return StageKey(
        stage="adapters",
        version=ADAPTER_VERSION,
        inputs={"material": lessons.material.identity, "model": model.identity, "alignment": alignment_key}
        | ground_truth_of(features),
        settings={
            "training": training_settings(config) | sharing_settings(config, rank=shop.rank),
            "groups": sorted(model.trainable_groups()),
            "lora": asdict(config.lora),
            "look_twice": asdict(config.look_twice),
        },
    )


def _with_weights(shop: Workshop, trained: Mapping[str, torch.Tensor]) -> BuiltModel:
    """Returns a new model with what was trained while no process had a whole one."""
    model = make_model(shop.config, assets=shop.assets)
    unknown = model.load_state_dict(dict(trained), strict=False).unexpected_keys
    assert not unknown, f"trained tensors of another model: {unknown[:3]}"
    return model


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
