"""Checked settings in, objects out: plain branches, one function a group, no dotted-path magic."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch

from velm_train.assets.library import AssetLibrary
from velm_train.backbones.load import load_backbone
from velm_train.collation.render import PromptRenderer, embedded_renderer
from velm_train.config import Config
from velm_train.config.data import DatasetConfig, ProtocolConfig, SynthesisConfig
from velm_train.core.artifacts import ArtifactStore, StageKey
from velm_train.core.hashing import sha256_json
from velm_train.core.progress import Progress
from velm_train.core.records import ImageRecord, ViewKind
from velm_train.core.taxonomy import Taxonomy, derive_taxonomy, read_taxonomy
from velm_train.datasets.generic import read_generic_folder, read_table
from velm_train.datasets.mvtec_style import read_mvtec_style
from velm_train.datasets.protocols import SplitManifest, k_shot_manifest
from velm_train.datasets.taxonomies import found_types, taxonomy_path
from velm_train.datasets.textile import read_textile
from velm_train.datasets.texture_specs import SEEN_TEXTURES, UNSEEN_TEXTURES
from velm_train.datasets.textures import TEXTURES_VERSION, TextureCounts, make_textures
from velm_train.detectors.patchcore import PatchCore
from velm_train.detectors.protocol import Detector
from velm_train.detectors.settings import PatchCoreSettings
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


def make_assets(config: Config, *, progress: Progress) -> AssetLibrary:
    """Returns the library of pinned weights and images."""
    return AssetLibrary(Path(config.paths.assets).expanduser(), progress=progress)


def make_store(config: Config, *, progress: Progress) -> ArtifactStore:
    """Returns the store of finished stages."""
    return ArtifactStore(Path(config.paths.artifacts).expanduser(), progress=progress)


def unseen_categories(dataset: DatasetConfig) -> tuple[str, ...]:
    """Returns the categories that training never sees; the textures set brings its own list."""
    if dataset.reader == "textures" and not dataset.unseen_categories:
        return tuple(name for name in UNSEEN_TEXTURES if not dataset.categories or name in dataset.categories)
    return tuple(dataset.unseen_categories)


def read_records(
    dataset: DatasetConfig, *, assets: AssetLibrary, store: ArtifactStore, progress: Progress
) -> list[ImageRecord]:
    """Reads the dataset, making or fetching it first where it is an embedded one.

    Raises:
        DataError: if the folder is not as it has to be.
        AssetError: if an embedded set cannot be fetched.
    """
    if dataset.reader == "textile":
        return read_textile(assets.ensure("textile_images") / "images", progress=progress)
    if dataset.reader == "textures":
        root = _textures_folder(dataset, assets=assets, store=store, progress=progress)
        return read_mvtec_style(root, dataset=dataset.name, categories=(), progress=progress)
    assert dataset.root is not None
    root = Path(dataset.root).expanduser()
    if dataset.reader == "mvtec_style":
        return read_mvtec_style(root, dataset=dataset.name, categories=dataset.categories, progress=progress)
    if dataset.reader == "generic_folder":
        return read_generic_folder(root, dataset=dataset.name, categories=dataset.categories, progress=progress)
    return read_table(root, dataset=dataset.name, progress=progress)


def _textures_folder(dataset: DatasetConfig, *, assets: AssetLibrary, store: ArtifactStore, progress: Progress) -> Path:
    synthesis = cast("SynthesisConfig", dataset.synthesis)
    unseen = unseen_categories(dataset)
    seen = [name for name in dataset.categories if name not in unseen] or list(SEEN_TEXTURES)
    counts = TextureCounts(
        train_good=synthesis.train_good,
        test_good=synthesis.test_good,
        defects_seen=synthesis.defects_seen,
        defects_unseen=synthesis.defects_unseen,
    )
    size_hw = (synthesis.height_px, synthesis.width_px)
    photos = assets.ensure("material_photos") / "images"
    key = StageKey(
        stage="textures",
        version=TEXTURES_VERSION,
        inputs={"photos": [status.source for status in assets.status() if status.name == "material_photos"]},
        settings={"seen": seen, "unseen": unseen, "size_hw": size_hw, "counts": counts, "seed": synthesis.seed},
    )

    def build(folder: Path) -> None:
        make_textures(
            folder,
            photos=photos,
            seen=seen,
            unseen=unseen,
            size_hw=size_hw,
            counts=counts,
            seed=synthesis.seed,
            progress=progress,
        )

    return store.get_or_build(key, build, title="textures set")


def make_taxonomy(dataset: DatasetConfig, records: Sequence[ImageRecord]) -> Taxonomy:
    """Reads the dataset's taxonomy and compares it with what is on disk, or derives one from the folder names.

    Raises:
        DataError: if they do not match.
    """
    found = found_types(records)
    if dataset.taxonomy is None:
        return derive_taxonomy(dataset.name, found)
    is_path = dataset.taxonomy.endswith(".json")
    taxonomy = read_taxonomy(Path(dataset.taxonomy).expanduser() if is_path else taxonomy_path(dataset.taxonomy))
    taxonomy.validate(found)
    return taxonomy


def make_manifest(
    protocol: ProtocolConfig, *, records: Sequence[ImageRecord], unseen: Sequence[str], seed: int
) -> SplitManifest:
    """Gives every image its role.

    Raises:
        DataError: if a category has too few images, or a leak is found.
    """
    return k_shot_manifest(
        records,
        k_shot=protocol.k_shot,
        unseen_categories=unseen,
        num_reference=protocol.reference_normals,
        num_validation_per_type=protocol.validation_per_type,
        max_normals=protocol.max_train_normals,
        max_test_per_type=protocol.max_test_per_type,
        calibration_fraction=protocol.calibration_fraction,
        test_normal_fraction=protocol.test_normal_fraction,
        seed=seed,
    )


def make_detector(config: Config, *, assets: AssetLibrary) -> Callable[[], Detector]:
    """Returns a maker of fresh detectors that share one backbone."""
    detector = config.detector
    device = torch.device("cuda" if config.trainer.accelerator == "gpu" else "cpu")
    backbone = load_backbone(detector.backbone, assets=assets, device=device)
    settings = PatchCoreSettings(
        layers=tuple(detector.layers),
        input_hw=(detector.input_height_px, detector.input_width_px),
        coreset_fraction=detector.coreset_fraction,
        max_patches=detector.max_bank_patches,
        smoothing_sigma=detector.smoothing_sigma,
        score_top_fraction=detector.score_top_fraction,
        reweight=detector.reweight,
        num_neighbours=detector.num_neighbours,
        seed=config.seed,
    )
    return lambda: PatchCore(backbone, settings, device=device, batch_size=detector.batch_size)


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
            pool=config.look_twice.pool,
            dim=config.look_twice.dim,
            steepness=config.look_twice.map_steepness,
            prior_weight=config.look_twice.map_prior_weight,
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


def label_sets(taxonomy: Taxonomy, records: Sequence[ImageRecord]) -> dict[str, list[str]]:
    """Returns each category's fixed list of defect types for the scoreboard."""
    used = sorted({record.category for record in records})
    return {category: sorted(taxonomy.categories[category].defect_types) for category in used}


def config_hash(config: Config) -> str:
    """Returns the hash of every setting but the folders and the task."""
    import dataclasses

    body = dataclasses.asdict(config)
    return sha256_json({name: body[name] for name in body if name not in {"paths", "task"}})
