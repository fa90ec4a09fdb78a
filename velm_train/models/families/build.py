"""A Hugging Face model and its processor in, a model of the project's protocol with fresh adapters out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from transformers import PretrainedConfig, PreTrainedModel, ProcessorMixin

from velm_train.core.errors import ConfigError
from velm_train.models.families.internvl import InternVLTap
from velm_train.models.families.llava_onevision import LlavaOnevisionTap
from velm_train.models.families.model import HFVisionLanguageModel
from velm_train.models.families.qwen import QwenTap
from velm_train.models.families.smolvlm import SmolVLMTap
from velm_train.models.families.tap import FamilyTap, blocks_of
from velm_train.models.families.writer import INSPECT_TOKEN, ViewWriter
from velm_train.models.initialisation import seeded_init
from velm_train.models.look_twice.adapter import LookTwiceSettings, build_look_twice
from velm_train.models.lora import LoraSettings, attach_lora

FamilyName = Literal["qwen2_5_vl", "qwen3_vl", "llava_onevision", "smolvlm", "internvl"]
"""Families with a tap."""

MODEL_TYPES: Mapping[FamilyName, tuple[str, ...]] = {
    "qwen2_5_vl": ("qwen2_5_vl",),
    "qwen3_vl": ("qwen3_vl",),
    "llava_onevision": ("llava_onevision",),
    "smolvlm": ("smolvlm", "idefics3"),
    "internvl": ("internvl",),
}
"""What a checkpoint of each family calls itself in `config.json`."""

LEVEL_DEPTHS = (0.24, 0.48, 0.72, 0.96)
"""Shares of the last block's number that serve as levels: 6, 12, 18 and 24 of 0..25, as in Anomaly-OneVision."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyParts:
    """A loaded or a tiny model, before anything is added.

    Attributes:
        family: which tap fits.
        vlm: the family's own class, frozen or not.
        processor: the family's own.
        name: what the saved adapter calls its base.
        weights_identity: hash of the model's weights.
    """

    family: FamilyName
    vlm: PreTrainedModel
    processor: ProcessorMixin
    name: str
    weights_identity: str


def assemble_family(
    parts: FamilyParts,
    *,
    look_twice: LookTwiceSettings,
    lora: LoraSettings | None,
    seed: int,
    level_layers: tuple[int, ...] | None = None,
    tile_views: bool = True,
    train_projector: bool = False,
    max_views: int | None = None,
) -> HFVisionLanguageModel:
    """Adds tap, adapter and LoRA.

    Args:
        parts: changed in place.
        look_twice: source "off" leaves the adapter out.
        lora: None leaves LoRA out, for the model as it comes.
        seed: root seed of all fresh weights.
        level_layers: vision blocks that the adapter reads, 1 first; None for the family's default.
        tile_views: LLaVA-OneVision alone: True for AnyRes crops, False for one padded square per view.
        train_projector: True to let the family's projector learn.
        max_views: most views of one prompt; None for no limit.

    Raises:
        ConfigError: if a level does not exist, or the settings do not fit the family.
    """
    tap = make_tap(parts.family, parts.vlm, level_layers=level_layers, tile_views=tile_views)
    parts.processor.tokenizer.add_tokens([INSPECT_TOKEN], special_tokens=True)
    with seeded_init(seed, "look_twice"):
        width = int(parts.vlm.config.vision_config.hidden_size)
        adapter = build_look_twice(
            settings=look_twice,
            level_dim=width,
            final_dim=width,
            num_levels=len(tap.level_layers),
            num_tokens=tap.tile_tokens,
            project=_Projection(tap, parts.vlm).project,
        )
    writer = ViewWriter(
        processor=parts.processor,
        tap=tap,
        num_second_look=0 if adapter is None else adapter.num_tokens,
        max_views=max_views,
    )
    vlm = parts.vlm if lora is None else attach_lora(parts.vlm, lora, base_name=parts.name, seed=seed)
    return HFVisionLanguageModel(
        vlm=vlm,
        writer=writer,
        look_twice=adapter,
        weights_identity=parts.weights_identity,
        train_projector=train_projector,
    )


@dataclass(frozen=True, slots=True)
class _Projection:
    """The model's projector as a bound method: its weights are the model's own and no part of the adapter."""

    tap: FamilyTap
    vlm: PreTrainedModel

    def project(self, features: torch.Tensor) -> torch.Tensor:
        return self.tap.project(self.vlm, features)


def make_tap(
    family: FamilyName, vlm: PreTrainedModel, *, level_layers: tuple[int, ...] | None, tile_views: bool
) -> QwenTap | LlavaOnevisionTap | SmolVLMTap | InternVLTap:
    """Returns the tap of a model.

    Args:
        family: which one; must fit the model.
        vlm: read for its sizes.
        level_layers: vision blocks, 1 first; None for the family's default.
        tile_views: see `assemble_family`.

    Raises:
        ConfigError: if the model is of another family, or a level does not exist.
    """
    config = vlm.config
    if family not in get_args(FamilyName) or config.model_type not in MODEL_TYPES[family]:
        raise ConfigError(
            f"model.family is {family!r}, but the checkpoint says {config.model_type!r}; name the right one"
        )
    vision = config.vision_config
    wanted = None if level_layers is None else tuple(layer - 1 for layer in level_layers)
    if family in ("qwen2_5_vl", "qwen3_vl"):
        return QwenTap(family=family, level_layers=_qwen_levels(vision, wanted))
    tower = vlm.model.vision_model if family == "smolvlm" else vlm.model.vision_tower
    levels = _checked(wanted or default_levels(len(blocks_of(tower))), depth=len(blocks_of(tower)))
    tile_grid = _side(vision.image_size) // _side(vision.patch_size)
    if family == "llava_onevision":
        return LlavaOnevisionTap(
            level_layers=levels,
            tile_grid=tile_grid,
            tile_views=tile_views,
            max_tiles=int(str(config.vision_aspect_ratio).removeprefix("anyres_max_")),
        )
    if family == "smolvlm":
        return SmolVLMTap(level_layers=levels, tile_grid=tile_grid, cell_side=int(config.scale_factor))
    return InternVLTap(level_layers=levels, tile_grid=tile_grid, cell_side=round(1 / config.downsample_ratio))


def default_levels(depth: int) -> tuple[int, ...]:
    """Returns the blocks at `LEVEL_DEPTHS` of a tower, 0 first, each once.

    Args:
        depth: number of blocks, at least 1.
    """
    return tuple(sorted({min(depth - 1, round(share * (depth - 1))) for share in LEVEL_DEPTHS}))


def _qwen_levels(vision: PretrainedConfig, level_layers: tuple[int, ...] | None) -> tuple[int, ...]:
    """Returns full-attention blocks (Qwen2.5-VL), or deepstack blocks and then the others (Qwen3-VL), 0 first."""
    if hasattr(vision, "deepstack_visual_indexes"):
        first = tuple(vision.deepstack_visual_indexes)
        wanted = level_layers or (vision.depth - 1,)
        return _checked((*first, *(layer for layer in wanted if layer not in first)), depth=vision.depth)
    return _checked(level_layers or tuple(vision.fullatt_block_indexes), depth=vision.depth)


def _checked(levels: tuple[int, ...], *, depth: int) -> tuple[int, ...]:
    if any(not 0 <= layer < depth for layer in levels):
        wanted = [layer + 1 for layer in levels]
        raise ConfigError(
            f"look_twice.levels={wanted} is not possible; allowed: 1 to {depth}, the blocks of this tower"
        )
    return levels


def _side(size: int | Sequence[int]) -> int:
    return int(size if isinstance(size, int) else size[0])
