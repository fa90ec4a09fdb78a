"""A model with LoRA in, the same model with LoRA added into its weights, on disk and back, out.

embedded     language_model/ + projector.safetensors + look_twice.safetensors + manifest.json
families     model and processor, as `from_pretrained` reads them + look_twice.safetensors + manifest.json
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from peft import PeftModel
from safetensors.torch import save
from torch import nn
from transformers import AutoModelForCausalLM

from velm_train.assets.library import AssetLibrary
from velm_train.core.artifacts import write_atomic
from velm_train.core.errors import ArtifactError, ConfigError
from velm_train.core.hashing import sha256_json
from velm_train.models.build import BuiltModel, assemble_embedded, embedded_towers
from velm_train.models.embedded.embedded import FAMILY, EmbeddedVLM
from velm_train.models.embedded.vision import VisionSettings
from velm_train.models.families.build import FamilyName, assemble_family
from velm_train.models.families.load import load_family
from velm_train.models.families.model import HFVisionLanguageModel
from velm_train.models.look_twice.adapter import LookTwiceSettings
from velm_train.models.lora import describe_lora
from velm_train.models.lora_merging import merge_into_base
from velm_train.models.quantisation import quantisation_of
from velm_train.models.saving import clear_folder, library_versions, write_files
from velm_train.models.weight_files import (
    MANIFEST_NAME,
    TENSOR_SUFFIX,
    check_tensors,
    describe_files,
    plain_tensors,
    read_manifest,
    read_tensors,
    require_files,
)

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
LANGUAGE_MODEL_FOLDER = "language_model"


@torch.no_grad()
def cast_weights(model: BuiltModel, dtype: torch.dtype) -> None:
    """Puts the frozen weights into another number type; what learns stays float32, a quantised base stays as it is."""
    if quantisation_of(model.language_model) != "none":
        return
    for parameter in model.language_model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)


def merge_adapters(model: BuiltModel, *, dtype: torch.dtype) -> dict[str, Any]:
    """Adds LoRA into the base weights for good; projector and look-twice adapter stay as they are.

    A family's own projector that has learned in float32 becomes a weight like the others. A quantised base becomes a
    plain one.

    Args:
        model: changed in place.
        dtype: of the merged weights.

    Returns:
        The base and the settings that were merged, for the manifest.

    Raises:
        ConfigError: if there is no LoRA.
    """
    tuned = model.language_model
    if not isinstance(tuned, PeftModel):
        raise ConfigError("this model has no LoRA to merge; export a model that was built with lora settings")
    origin = {
        "base": {"id": str(tuned.peft_config["default"].base_model_name_or_path), "identity": model.identity},
        "lora": describe_lora(tuned),
    }
    model.language_model = merge_into_base(tuned, dequantise=True).requires_grad_(requires_grad=False)
    cast_weights(model, dtype)
    return origin


def save_merged(model: BuiltModel, folder: Path, *, origin: Mapping[str, Any]) -> None:
    """Writes a merged model, the manifest last.

    Args:
        model: after `merge_adapters`.
        folder: made if absent.
        origin: what `merge_adapters` returned.

    Raises:
        ResourceError: if the folder cannot be written.
    """
    clear_folder(folder)
    weights = model.language_model
    if isinstance(model, EmbeddedVLM):
        inner = folder / LANGUAGE_MODEL_FOLDER
        write_files(inner, weights.save_pretrained)
        if model.write_tokenizer is not None:
            write_files(inner, model.write_tokenizer)
        assembly = _embedded_assembly(model)
    else:
        write_files(folder, weights.save_pretrained)
        write_files(folder, model.writer.processor.save_pretrained)
        assembly = _family_assembly(model)
    for name, part in _parts(model).items():
        write_atomic(folder / name, save(plain_tensors(part.state_dict()), metadata={"format": "pt"}))
    look_twice = {"source": "off"} if model.look_twice is None else asdict(model.look_twice.settings)
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "kind": "merged model",
        **origin,
        "assembly": {"dtype": str(weights.dtype).removeprefix("torch."), **assembly},
        "look_twice": look_twice,
        "versions": library_versions(),
        "files": describe_files(folder),
    }
    write_atomic(folder / MANIFEST_NAME, json.dumps(manifest, indent=1, sort_keys=True))


def load_merged(folder: Path, *, assets: AssetLibrary) -> BuiltModel:
    """Reads what `save_merged` wrote.

    Args:
        folder: a finished one.
        assets: where the towers of the embedded model are.

    Raises:
        ArtifactError: naming what is missing, damaged or of another version.
    """
    manifest = read_manifest(folder, kind="merged model", schema_version=SCHEMA_VERSION, remedy="export the run again")
    require_files(folder, manifest, kind="merged model")
    family = manifest["assembly"]["family"]
    if family == FAMILY:
        model: BuiltModel = _load_embedded(folder, manifest, assets=assets)
    elif family in get_args(FamilyName):
        model = _load_family(folder, manifest)
    else:
        raise ArtifactError(f"merged model {folder}: family {family!r} is unknown; use the version that exported it")
    for name, part in _parts(model).items():
        stored, own = read_tensors(folder / name), part.state_dict()
        check_tensors(folder / name, stored, own)
        part.load_state_dict(stored, strict=True)
    return model.eval()


def _parts(model: BuiltModel) -> dict[str, nn.Module]:
    """Returns what is saved beside the language model, by file name."""
    parts: dict[str, nn.Module | None] = {"look_twice": model.look_twice}
    if isinstance(model, EmbeddedVLM):
        parts["projector"] = model.projector
    return {f"{name}{TENSOR_SUFFIX}": part for name, part in parts.items() if part is not None}


def _embedded_assembly(model: EmbeddedVLM) -> dict[str, Any]:
    return {"family": FAMILY, "vision": asdict(model.towers.settings), "evidence": model.evidence_identity}


def _load_embedded(folder: Path, manifest: Mapping[str, Any], *, assets: AssetLibrary) -> EmbeddedVLM:
    assembly = manifest["assembly"]
    vision = {**assembly["vision"], "level_layers": tuple(assembly["vision"]["level_layers"])}
    towers = embedded_towers(assets=assets, settings=VisionSettings(**vision))
    if towers.identity != assembly["evidence"]:
        raise ArtifactError(
            f"merged model {folder} was made with other vision towers ({assembly['evidence'][:12]}) than those of this "
            f"version ({towers.identity[:12]}); export the run again"
        )
    language_model = AutoModelForCausalLM.from_pretrained(
        folder / LANGUAGE_MODEL_FOLDER, dtype=getattr(torch, assembly["dtype"]), local_files_only=True
    )
    return assemble_embedded(
        towers=towers,
        language_model=language_model,
        language_model_name=str(folder),
        language_model_identity=sha256_json(manifest["files"]),
        look_twice=LookTwiceSettings(**manifest["look_twice"]),
        lora=None,
        seed=0,
    )


def _family_assembly(model: HFVisionLanguageModel) -> dict[str, Any]:
    tap = model.writer.tap
    assert is_dataclass(tap), "a tap is a frozen dataclass"
    settings = asdict(tap)
    return {
        "family": tap.family,
        "level_layers": [layer + 1 for layer in settings["level_layers"]],
        "tile_views": settings["tile_views"] if "tile_views" in settings else True,
        "max_views": model.writer.max_views,
        "attn_implementation": model.language_model.config._attn_implementation,
    }


def _load_family(folder: Path, manifest: Mapping[str, Any]) -> HFVisionLanguageModel:
    assembly = manifest["assembly"]
    parts = load_family(
        str(folder),
        family=assembly["family"],
        dtype=getattr(torch, assembly["dtype"]),
        attn_implementation=assembly["attn_implementation"],
        offline=True,
    )
    return assemble_family(
        parts,
        look_twice=LookTwiceSettings(**manifest["look_twice"]),
        lora=None,
        seed=0,
        level_layers=tuple(assembly["level_layers"]),
        tile_views=assembly["tile_views"],
        max_views=assembly["max_views"],
    )
