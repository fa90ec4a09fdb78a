"""Checked settings in, model and training objects out: plain branches, one function a group."""

from collections.abc import Sequence
from typing import Any, cast

import torch

from velm_train.assets.library import AssetLibrary
from velm_train.cli.build_engine import make_device
from velm_train.collation.render import FamilyViews, PromptRenderer, embedded_renderer
from velm_train.config import Config
from velm_train.core.records import ViewKind
from velm_train.instructions.builder import OptionSampling, TaskMix
from velm_train.instructions.wording import Wording
from velm_train.models.build import LANGUAGE_MODEL, BuiltModel, build_embedded
from velm_train.models.compilation import require_compiler
from velm_train.models.embedded.embedded import EmbeddedVLM
from velm_train.models.embedded.vision import DEFAULT_LEVELS, VisionSettings
from velm_train.models.families.build import FamilyName
from velm_train.models.families.hub import AttnImplementation, HubSettings, build_family
from velm_train.models.families.load import require_checkpoint
from velm_train.models.families.model import HFVisionLanguageModel
from velm_train.models.families.writer import INSPECT_TOKEN
from velm_train.models.look_twice.adapter import LookTwiceSettings
from velm_train.models.lora import LoraSettings
from velm_train.pipeline.augmentation import AugmentationSettings
from velm_train.training.optimiser import Optimisation, require_runs_here

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


def make_model(config: Config, *, assets: AssetLibrary) -> BuiltModel:
    """Builds the model with fresh adapters on the CPU; the embedded vision towers load when first needed.

    Raises:
        AssetError: if the weights are not there and cannot be fetched.
        ConfigError: if the settings do not fit the family.
    """
    if config.model.embedded is None:
        return _make_family(config, look_twice=_look_twice_settings(config), lora=_lora_settings(config))
    sizes, levels = config.model.embedded, config.look_twice.levels
    look_twice = _look_twice_settings(config)
    return build_embedded(
        assets=assets,
        vision=VisionSettings(
            cnn_px=sizes.cnn_px,
            vit_px=sizes.vit_px,
            level_layers=DEFAULT_LEVELS[look_twice.form] if levels is None else tuple(f"block{n}" for n in levels),
            first_look_grid=sizes.first_look_grid,
            half_precision=config.model.dtype == "bfloat16",
        ),
        look_twice=look_twice,
        lora=_lora_settings(config),
        seed=config.seed,
        dtype=DTYPES[config.model.dtype],
    )


def make_untuned(config: Config, *, assets: AssetLibrary) -> BuiltModel:
    """Builds the model as it is before tuning.

    The embedded one has fresh adapters, because its projector starts from nothing; any other is as it comes, without
    LoRA and second look.
    """
    if config.model.embedded is not None:
        return make_model(config, assets=assets)
    return _make_family(config, look_twice=LookTwiceSettings(source="off"), lora=None)


def _make_family(config: Config, *, look_twice: LookTwiceSettings, lora: LoraSettings | None) -> HFVisionLanguageModel:
    hub, levels = config.model.hub, config.look_twice.levels
    assert hub is not None
    return build_family(
        cast("FamilyName", config.model.family),
        hub=HubSettings(
            path=hub.path,
            revision=hub.revision,
            attn_implementation=cast("AttnImplementation", hub.attn_implementation),
            min_pixels=hub.min_pixels,
            max_pixels=hub.max_pixels,
            max_views=hub.max_views,
            train_projector=hub.train_projector,
        ),
        dtype=DTYPES[config.model.dtype],
        level_layers=None if levels is None else tuple(levels),
        look_twice=look_twice,
        lora=lora,
        seed=config.seed,
    )


def _look_twice_settings(config: Config) -> LookTwiceSettings:
    look_twice = config.look_twice
    return LookTwiceSettings(
        source=cast("Any", look_twice.source),
        form=cast("Any", look_twice.form),
        pool=look_twice.pool,
        dim=look_twice.dim,
        steepness=look_twice.map_steepness,
        prior_weight=look_twice.map_prior_weight,
        score_noise=look_twice.score_noise,
    )


def _lora_settings(config: Config) -> LoraSettings:
    return LoraSettings(
        r=config.lora.r,
        alpha=config.lora.alpha,
        dropout=config.lora.dropout,
        variant=cast("Any", config.lora.variant),
        targets=config.lora.targets,
        vision=config.lora.vision,
        quantisation=cast("Any", config.lora.quantisation),
        rank_pattern={one.layers: one.r for one in config.lora.per_layer},
        alpha_pattern={one.layers: one.alpha for one in config.lora.per_layer},
    )


def make_renderer(model: BuiltModel, *, assets: AssetLibrary) -> PromptRenderer:
    """Returns what turns samples into token ids for this model, as it is now: with its second look or without."""
    if isinstance(model, EmbeddedVLM):
        return embedded_renderer(
            assets.ensure(LANGUAGE_MODEL), num_first_look=model.num_first_look, num_second_look=model.num_second_look
        )
    writer = model.writer
    return PromptRenderer(
        writer.tokenizer,
        image_token=writer.image_token,
        inspect_token=INSPECT_TOKEN,
        system_text=None,
        family=FamilyViews(view_ids=writer, max_views=writer.max_views, max_tokens=model.max_context),
    )


def max_tokens(config: Config, *, model: BuiltModel) -> int:
    """Returns how long a sample may be: what the settings say, or the language model's own context."""
    limit = config.instructions.max_tokens
    return model.max_context if limit is None else limit


def require_machine(config: Config) -> None:
    """Refuses a run whose device or checkpoint is not here, before anything is computed.

    A checkpoint that is not here is fetched, unless the hub is not to be asked.

    Raises:
        AssetError: naming the folder of the checkpoint and how to fetch it.
        ConfigError: if there is no GPU and one is asked for, the checkpoint is of another family, or optimiser or
            compiler cannot run here.
    """
    require_runs_here(cast("Any", config.trainer.optimiser), device=make_device(config))
    if config.trainer.compile:
        require_compiler()
    if config.model.hub is not None and config.model.hub.path is not None:
        require_checkpoint(
            config.model.hub.path,
            family=cast("FamilyName", config.model.family),
            revision=config.model.hub.revision,
            offline=False,
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
        kind=cast("Any", config.trainer.optimiser),
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
        kind=cast("Any", trainer.optimiser),
    )


def augmentation(config: Config) -> AugmentationSettings:
    """Returns what changes in training pictures from visit to visit."""
    settings = config.trainer.augmentation
    return AugmentationSettings(
        flips=settings.flips,
        quarter_turns=settings.quarter_turns,
        brightness=settings.brightness,
        contrast=settings.contrast,
    )


def training_settings(config: Config) -> dict[str, Any]:
    """Returns every setting that changes the trained weights, for the artefact's key."""
    trainer = config.trainer
    return {
        "max_steps": trainer.max_steps,
        "batch_size": trainer.batch_size,
        "token_budget": trainer.token_budget,
        "bucket_size": trainer.bucket_size,
        "accumulate": trainer.accumulate,
        "optimisation": adapter_optimisation(config),
        "bce_weight": trainer.bce_weight,
        "balance": trainer.balance,
        "packing": trainer.packing,
        "questions_per_image": trainer.questions_per_image,
        "hard_share": trainer.hard_share if trainer.balance == "hard" else None,
        "augmentation": augmentation(config) if trainer.augmentation.active else None,
        "precision": trainer.precision,
        "compile": trainer.compile,
        "seed": config.seed,
        # What was measured decides which weights these are only if it is asked to.
        **({"use_best": config.callbacks.validate_every} if config.callbacks.use_best else {}),
    }
