"""Checked settings in, model and training objects out: plain branches, one function a group."""

from collections.abc import Sequence
from typing import Any, cast

import torch

from velm_train.assets.library import AssetLibrary
from velm_train.collation.render import PromptRenderer, embedded_renderer
from velm_train.config import Config
from velm_train.core.records import ViewKind
from velm_train.instructions.builder import OptionSampling, TaskMix
from velm_train.instructions.wording import Wording
from velm_train.models.build import LANGUAGE_MODEL, build_embedded
from velm_train.models.embedded.embedded import EmbeddedVLM
from velm_train.models.embedded.vision import VisionSettings
from velm_train.models.look_twice.adapter import LookTwiceSettings
from velm_train.models.lora import LoraSettings
from velm_train.training.fit import Engine
from velm_train.training.optimiser import Optimisation

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def task_mix(config: Config) -> TaskMix:
    """Returns which tasks are asked how often."""
    return TaskMix(
        task_weights={name: task.weight for name, task in config.instructions.tasks.items()},
        views_per_task={name: _views(task.views) for name, task in config.instructions.tasks.items()},
        samples_per_region=config.instructions.samples_per_region,
    )


def _views(names: Sequence[str]) -> list[ViewKind]:
    return [cast("ViewKind", name) for name in names]


def question_views(config: Config) -> list[ViewKind]:
    """Returns the views of the question that evaluation asks."""
    return _views(config.instructions.tasks["name_type"].views)


def option_sampling(config: Config) -> OptionSampling:
    """Returns how training lists vary."""
    return OptionSampling(
        none_of_these_probability=config.instructions.none_of_these_probability,
        option_subset_probability=config.instructions.option_subset_probability,
        min_options=config.instructions.min_options,
    )


def wording(config: Config) -> Wording:
    """Returns how prompts vary."""
    return Wording(
        paraphrase_probability=config.instructions.paraphrase_probability,
        synonym_probability=config.instructions.synonym_probability,
        with_descriptions=config.instructions.with_descriptions,
    )


def make_model(config: Config, *, assets: AssetLibrary) -> EmbeddedVLM:
    """Builds the model with fresh adapters; the vision towers load when first needed."""
    return build_embedded(
        assets=assets,
        vision=VisionSettings(
            cnn_px=config.model.cnn_px,
            vit_px=config.model.vit_px,
            level_layers=tuple(config.look_twice.levels),
            first_look_grid=config.model.first_look_grid,
            half_precision=config.model.dtype == "bfloat16",
        ),
        look_twice=LookTwiceSettings(
            source=cast("Any", config.look_twice.source),
            form=cast("Any", config.look_twice.form),
            pool=config.look_twice.pool,
            dim=config.look_twice.dim,
            steepness=config.look_twice.map_steepness,
            prior_weight=config.look_twice.map_prior_weight,
            score_noise=config.look_twice.score_noise,
        ),
        lora=LoraSettings(
            r=config.lora.r,
            alpha=config.lora.alpha,
            dropout=config.lora.dropout,
            variant=cast("Any", config.lora.variant),
            targets=cast("Any", config.lora.targets),
        ),
        seed=config.seed,
        dtype=DTYPES[config.model.dtype],
    )


def make_renderer(model: EmbeddedVLM, *, assets: AssetLibrary) -> PromptRenderer:
    """Returns what turns samples into token ids for this model."""
    return embedded_renderer(
        assets.ensure(LANGUAGE_MODEL), num_first_look=model.num_first_look, num_second_look=model.num_second_look
    )


def make_engine(config: Config) -> Engine:
    """Returns where Lightning runs."""
    return Engine(
        accelerator=config.trainer.accelerator,
        devices=config.trainer.devices,
        precision=cast("Any", config.trainer.precision),
    )


def alignment_optimisation(config: Config) -> Optimisation:
    """Returns how the alignment stage moves projector and adapter."""
    rate = config.alignment.learning_rate
    return Optimisation(
        max_steps=config.alignment.max_steps,
        learning_rates={"projector": rate, "look_twice": rate},
        weight_decay=config.trainer.weight_decay,
        warmup_fraction=config.trainer.warmup_fraction,
        min_learning_rate_fraction=config.trainer.min_learning_rate_fraction,
        gradient_clip=config.trainer.gradient_clip,
    )


def adapter_optimisation(config: Config) -> Optimisation:
    """Returns how the second stage moves LoRA, projector and adapter."""
    trainer = config.trainer
    return Optimisation(
        max_steps=trainer.max_steps,
        learning_rates={
            "lora": trainer.lora_learning_rate,
            "projector": trainer.projector_learning_rate,
            "look_twice": trainer.look_twice_learning_rate,
        },
        weight_decay=trainer.weight_decay,
        warmup_fraction=trainer.warmup_fraction,
        min_learning_rate_fraction=trainer.min_learning_rate_fraction,
        gradient_clip=trainer.gradient_clip,
    )


def training_settings(config: Config) -> dict[str, Any]:
    """Returns every setting that changes the trained weights, for the artefact's key."""
    trainer = config.trainer
    return {
        "max_steps": trainer.max_steps,
        "batch_size": trainer.batch_size,
        "accumulate": trainer.accumulate,
        "optimisation": adapter_optimisation(config),
        "bce_weight": trainer.bce_weight,
        "balance": trainer.balance,
        "precision": trainer.precision,
        "seed": config.seed,
    }
