"""A hub id or a folder in, the family's model and processor out; offline nothing is asked of any network."""

import logging
import os
from pathlib import Path

import torch
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from velm_train.core.errors import AssetError, ConfigError
from velm_train.models.families.build import MODEL_TYPES, FamilyName, FamilyParts
from velm_train.models.families.identity import files_identity

logger = logging.getLogger(__name__)

_NEEDED = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")


def load_family(
    model: str,
    *,
    family: FamilyName,
    dtype: torch.dtype,
    attn_implementation: str = "sdpa",
    revision: str | None = None,
    offline: bool = False,
) -> FamilyParts:
    """Loads a checkpoint on the CPU, and its processor.

    Args:
        model: hub id such as "Qwen/Qwen2.5-VL-3B-Instruct", or a folder that holds a checkpoint.
        family: which family it is of.
        dtype: of all weights.
        attn_implementation: as transformers names them; option scoring needs one that takes a mask per pair of
            positions, "sdpa" or "eager".
        revision: branch, tag or commit of the hub; not read for a folder.
        offline: True to use what is on disk alone, as HF_HUB_OFFLINE=1 does for every program.

    Raises:
        AssetError: if the checkpoint is not there or not whole, naming the folder and how to fetch it.
        ConfigError: if the checkpoint is of another family.
    """
    folder = require_checkpoint(model, family=family, revision=revision, offline=offline)
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        vlm = AutoModelForImageTextToText.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=attn_implementation,
            local_files_only=True,
        )
    except (OSError, ImportError, ValueError, SafetensorError) as error:
        raise AssetError(f"{model} cannot be loaded from {folder}: {_line(error)}") from error
    if processor.chat_template is not None:
        processor.tokenizer.chat_template = processor.chat_template
    return FamilyParts(
        family=family, vlm=vlm.eval(), processor=processor, name=model, weights_identity=files_identity(folder)
    )


def require_checkpoint(model: str, *, family: FamilyName, revision: str | None, offline: bool) -> Path:
    """Returns the folder of a checkpoint of a family, fetched first if it has to be; no weights are read.

    Raises:
        AssetError: if it is not there, or no checkpoint.
        ConfigError: if it is of another family.
    """
    folder = _find(model, revision=revision, offline=offline)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise AssetError(
            f"{folder} holds no checkpoint that transformers can read ({_line(error)}); name a folder with its "
            "config.json, weights and processor"
        ) from error
    if config.model_type not in MODEL_TYPES[family]:
        raise ConfigError(
            f"model.family is {family!r}, but {model} is of type {config.model_type!r}; "
            f"allowed for this family: {', '.join(MODEL_TYPES[family])}"
        )
    if not any(folder.glob("*.safetensors")):
        raise AssetError(f"{folder} holds no weights (*.safetensors); copy the whole checkpoint there")
    return folder


def _find(model: str, *, revision: str | None, offline: bool) -> Path:
    """Returns the folder of a checkpoint, fetched first if it has to be and may be.

    Raises:
        AssetError: if it is neither a folder nor in the hub's cache and cannot be fetched.
    """
    if Path(model).expanduser().is_dir():
        return Path(model).expanduser()
    local_only = offline or constants.HF_HUB_OFFLINE
    try:
        return Path(
            snapshot_download(model, revision=revision, allow_patterns=list(_NEEDED), local_files_only=local_only)
        )
    except HFValidationError as error:
        raise AssetError(f"{model} is neither a folder nor a hub id such as 'Qwen/Qwen2.5-VL-3B-Instruct'") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        missing = Path(constants.HF_HUB_CACHE) / f"models--{model.replace('/', '--')}"
        how = "and this run is offline" if local_only else f"and it cannot be fetched ({_line(error)})"
        raise AssetError(
            f"{model} is not on disk ({missing} is missing or incomplete) {how}; run `hf download {model}` where there "
            f"is a network, copy that folder here{_hint()}, or set model.hub.path to a folder that holds the checkpoint"
        ) from error


def _hint() -> str:
    return "" if "HF_HOME" in os.environ else " (HF_HOME moves it)"


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
