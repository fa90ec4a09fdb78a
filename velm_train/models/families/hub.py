"""Settings in, a ready model of any Hugging Face family out: from the hub's cache, a folder, or made on the spot."""

from dataclasses import dataclass
from typing import Literal

import torch

from velm_train.models.families.bounds import set_image_bounds
from velm_train.models.families.build import FamilyName, FamilyParts, assemble_family
from velm_train.models.families.load import load_family
from velm_train.models.families.model import HFVisionLanguageModel
from velm_train.models.families.tiny import build_tiny
from velm_train.models.look_twice.adapter import LookTwiceSettings
from velm_train.models.lora import LoraSettings

AttnImplementation = Literal["sdpa", "eager"]
"""Implementations that take a mask for each pair of positions, which option scoring needs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HubSettings:
    """Which checkpoint, and how it sees.

    Attributes:
        path: hub id or folder; None for a tiny model of random weights, the same in every run.
        revision: of the hub; None for the newest, or for what is on disk.
        attn_implementation: as transformers names it.
        min_pixels: smallest area of a view in the tower; None for the checkpoint's own.
        max_pixels: the largest.
        max_views: most views of one prompt; None for no limit.
        train_projector: True to let the family's projector learn.
    """

    path: str | None
    revision: str | None
    attn_implementation: AttnImplementation
    min_pixels: int | None
    max_pixels: int | None
    max_views: int | None
    train_projector: bool


def build_family(
    family: FamilyName,
    *,
    hub: HubSettings,
    dtype: torch.dtype,
    level_layers: tuple[int, ...] | None,
    look_twice: LookTwiceSettings,
    lora: LoraSettings | None,
    seed: int,
) -> HFVisionLanguageModel:
    """Loads or makes the model on the CPU and adds fresh adapters.

    Args:
        family: which one.
        hub: checkpoint, bounds and projector.
        dtype: of the frozen weights.
        level_layers: vision blocks that the adapter reads, 1 first; None for the family's default.
        look_twice: source "off" leaves the adapter out.
        lora: None leaves LoRA out.
        seed: root seed of all fresh weights; the weights of a tiny model do not depend on it.

    Raises:
        AssetError: if the checkpoint is not there, naming the folder and how to fetch it.
        ConfigError: if the settings do not fit the family.
    """
    parts = _parts(family, hub, dtype=dtype)
    tile_views = set_image_bounds(parts, min_pixels=hub.min_pixels, max_pixels=hub.max_pixels)
    return assemble_family(
        parts,
        look_twice=look_twice,
        lora=lora,
        seed=seed,
        level_layers=level_layers,
        tile_views=tile_views,
        train_projector=hub.train_projector,
        max_views=hub.max_views,
    )


def _parts(family: FamilyName, hub: HubSettings, *, dtype: torch.dtype) -> FamilyParts:
    if hub.path is None:
        parts = build_tiny(family, attn_implementation=hub.attn_implementation)
        parts.vlm.to(dtype)
        return parts
    return load_family(
        hub.path,
        family=family,
        dtype=dtype,
        attn_implementation=hub.attn_implementation,
        revision=hub.revision,
    )
