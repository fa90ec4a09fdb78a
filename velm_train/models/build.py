"""Settings and an asset library in, a ready model out; the same seed gives the same weights bit by bit."""

import shutil
from functools import partial
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from velm_train.assets.library import AssetLibrary
from velm_train.assets.manifest import read_manifest
from velm_train.assets.registry import PINS, AssetName
from velm_train.backbones.load import load_backbone
from velm_train.core.hashing import sha256_json
from velm_train.models.embedded.embedded import EmbeddedVLM
from velm_train.models.embedded.projector import VisionProjector
from velm_train.models.embedded.vision import LEVEL_DIM, SOURCE_DIMS, Towers, TwoTowers, VisionSettings
from velm_train.models.families.model import HFVisionLanguageModel
from velm_train.models.initialisation import seeded_init
from velm_train.models.look_twice.adapter import LookTwiceSettings, build_look_twice
from velm_train.models.lora import LoraSettings, attach_lora

BuiltModel = EmbeddedVLM | HFVisionLanguageModel
"""A model of any family."""

LANGUAGE_MODEL: AssetName = "smollm2_135m_instruct"
CNN: AssetName = "efficientnet_lite0"
VIT: AssetName = "dinov2_small"

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
"""Of the language model's folder, what its tokenizer is made of."""


def quiet_transformers() -> None:
    """Leaves the console to the program: no bars and no advice from transformers, errors alone."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def build_embedded(
    *,
    assets: AssetLibrary,
    vision: VisionSettings,
    look_twice: LookTwiceSettings,
    lora: LoraSettings,
    seed: int,
    dtype: torch.dtype = torch.float32,
) -> EmbeddedVLM:
    """Builds the embedded model; the vision towers are loaded when the first picture is encoded.

    Args:
        assets: where the pinned weights are, or are fetched to.
        vision: input sizes, levels and first-look grid.
        look_twice: source "off" leaves the adapter out.
        lora: rank, scale, variant and targets.
        seed: root seed of all fresh weights.
        dtype: of the frozen language model; what learns is float32 always.

    Raises:
        ConfigError: if the first-look grid does not divide the fine grid.
        AssetError: if weights cannot be fetched or are damaged.
    """
    folder = assets.ensure(LANGUAGE_MODEL)
    language_model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
    model = assemble_embedded(
        towers=embedded_towers(assets=assets, settings=vision),
        language_model=language_model,
        language_model_name=LANGUAGE_MODEL,
        language_model_identity=asset_identity(assets, LANGUAGE_MODEL),
        look_twice=look_twice,
        lora=lora,
        seed=seed,
    )
    model.write_tokenizer = partial(copy_tokenizer, folder)
    return model


def assemble_embedded(
    *,
    towers: TwoTowers,
    language_model: PreTrainedModel,
    language_model_name: str,
    language_model_identity: str,
    look_twice: LookTwiceSettings,
    lora: LoraSettings | None,
    seed: int,
) -> EmbeddedVLM:
    """Adds fresh projector, adapter and LoRA to frozen parts.

    Args:
        towers: frozen encoders.
        language_model: any causal model with a cache; changed in place.
        language_model_name: what the saved adapter calls its base.
        language_model_identity: hash of its weights.
        look_twice: source "off" leaves the adapter out.
        lora: rank, scale, variant and targets; None for a language model with LoRA merged into its weights.
        seed: root seed of all fresh weights.

    Raises:
        ConfigError: if the first-look grid does not divide the fine grid.
    """
    words = language_model.get_input_embeddings().weight
    with seeded_init(seed, "projector"):
        projector = VisionProjector(
            source_dims=SOURCE_DIMS,
            hidden_dim=towers.settings.projector_dim,
            out_dim=words.shape[1],
            out_norm=float(words.detach().float().norm(dim=-1).mean()),
        )
    with seeded_init(seed, "look_twice"):
        adapter = build_look_twice(
            settings=look_twice,
            level_dim=LEVEL_DIM,
            final_dim=sum(SOURCE_DIMS),
            num_levels=len(towers.settings.level_layers),
            num_tokens=towers.settings.token_grid**2,
            project=projector.__call__,
        )
    if lora is None:
        tuned = language_model.requires_grad_(requires_grad=False)
    else:
        tuned = attach_lora(language_model, lora, base_name=language_model_name, seed=seed)
    return EmbeddedVLM(
        towers=towers,
        language_model=tuned,
        language_model_identity=language_model_identity,
        projector=projector,
        look_twice=adapter,
    )


def embedded_towers(*, assets: AssetLibrary, settings: VisionSettings) -> TwoTowers:
    """Returns the two encoders of the embedded model, not loaded yet."""

    def load(device: torch.device) -> Towers:
        return Towers(
            cnn=load_backbone(CNN, assets=assets, device=device), vit=load_backbone(VIT, assets=assets, device=device)
        )

    return TwoTowers(
        load=load,
        weights_identity=sha256_json({"cnn": asset_identity(assets, CNN), "vit": asset_identity(assets, VIT)}),
        settings=settings,
    )


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copies the files that make a tokenizer from one folder to another."""
    for name in TOKENIZER_FILES:
        shutil.copyfile(source / name, target / name)


def asset_identity(assets: AssetLibrary, name: AssetName) -> str:
    """Returns a hash of an asset's files, from its manifest."""
    return sha256_json(read_manifest(assets.ensure(name), PINS[name])["files"])
