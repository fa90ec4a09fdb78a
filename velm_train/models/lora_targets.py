"""A model and what `lora.targets` says in, the exact linear layers that get LoRA out; anything else is refused by name.

A pattern that names layers by their end alone (`q_proj`, PEFT's "all-linear") also matches inside vision towers, where
SigLIP and InternViT call their projections like the language model does. So every pattern here begins with the path of
the language model of its family, and what a user's own pattern matches is checked layer by layer.
"""

import re
from collections.abc import Iterable, Mapping

from torch import nn
from transformers import PreTrainedModel

from velm_train.core.errors import ConfigError

TARGET_PRESETS: Mapping[str, str] = {
    "attention": r"self_attn\.[qkvo]_proj",
    "attention_mlp": r"(?:self_attn\.[qkvo]_proj|mlp\.(?:gate|up|down)_proj)",
}
"""Name -> linear layers of every decoder block; any other value of `lora.targets` is a pattern of full names."""

_DECODERS: Mapping[str, str] = {
    "qwen2_5_vl": "model.language_model",
    "qwen3_vl": "model.language_model",
    "llava_onevision": "model.language_model",
    "internvl": "model.language_model",
    "smolvlm": "model.text_model",
    "idefics3": "model.text_model",
}
_PLAIN_DECODER = "model"
_VISION_BLOCKS: Mapping[str, str] = {
    "qwen2_5_vl": "model.visual.blocks",
    "qwen3_vl": "model.visual.blocks",
    "llava_onevision": "model.vision_tower.encoder.layers",
    "internvl": "model.vision_tower.encoder.layer",
    "smolvlm": "model.vision_model.encoder.layers",
    "idefics3": "model.vision_model.encoder.layers",
}
_VISION_PRESETS: Mapping[str, str] = {
    "attention": r"(?:attn|self_attn|attention)\.(?:qkv|proj|[qkv]_proj|out_proj|projection_layer)",
    "attention_mlp": r"(?:(?:attn|self_attn|attention)\.(?:qkv|proj|[qkv]_proj|out_proj|projection_layer)"
    r"|mlp\.(?:gate_proj|up_proj|down_proj|fc[12]|linear_fc[12]))",
}


def decoder_path(model: PreTrainedModel) -> str:
    """Returns the name of the language model without its output layer inside a causal or vision-language model.

    Raises:
        ConfigError: if the family is not known.
    """
    model_type = str(model.config.model_type)
    if model_type in _DECODERS:
        return _DECODERS[model_type]
    if hasattr(model.config, "vision_config"):
        raise ConfigError(
            f"LoRA does not know where the language model of type {model_type!r} is; known: {', '.join(_DECODERS)}"
        )
    return _PLAIN_DECODER


def target_pattern(model: PreTrainedModel, targets: str, *, vision: bool) -> str:
    """Returns the regular expression of full module names.

    Args:
        model: without LoRA.
        targets: "attention", "attention_mlp", or a regular expression, which is returned as it is.
        vision: True to name the same layers of the vision tower, too.

    Raises:
        ConfigError: if there is no vision tower to name.
    """
    if vision and str(model.config.model_type) not in _VISION_BLOCKS:
        raise ConfigError(
            f"lora.vision is true, but the towers beside a model of type {model.config.model_type!r} stay frozen; "
            f"set it to false, or choose a family with a tower of its own: {', '.join(_VISION_BLOCKS)}"
        )
    if targets not in TARGET_PRESETS:
        return targets
    pattern = rf"{re.escape(decoder_path(model))}\.layers\.\d+\.{TARGET_PRESETS[targets]}"
    if not vision:
        return pattern
    blocks = re.escape(_VISION_BLOCKS[str(model.config.model_type)])
    return rf"(?:{pattern}|{blocks}\.\d+\.{_VISION_PRESETS[targets]})"


def find_targets(model: PreTrainedModel, targets: str, *, vision: bool) -> list[str]:
    """Returns the full names of the layers that get LoRA, in the model's order.

    Args:
        model: without LoRA.
        targets: see `target_pattern`.
        vision: True to let the pattern reach into the vision tower's blocks.

    Raises:
        ConfigError: if the pattern is none, matches nothing, or matches what LoRA is not meant for.
    """
    try:
        matches = re.compile(target_pattern(model, targets, vision=vision)).fullmatch
    except re.error as error:
        raise ConfigError(f"lora.targets is {targets!r}, which is no regular expression: {error}") from error
    found = {name: module for name, module in model.named_modules() if matches(name)}
    if not found:
        raise ConfigError(
            f"lora.targets is {targets!r}, which matches no layer; use {', '.join(TARGET_PRESETS)}, or a regular "
            f"expression of full names such as {decoder_layers(model)[0]}"
        )
    wrong = [name for name, module in found.items() if not isinstance(module, nn.Linear)]
    if wrong:
        raise ConfigError(f"lora.targets matches {_some(wrong)}; only linear layers are allowed")
    _require_inside(model, list(found), vision=vision)
    return list(found)


def decoder_layers(model: PreTrainedModel) -> list[str]:
    """Returns the names of all linear layers in the blocks of the language model, as `attention_mlp` matches them."""
    matches = re.compile(target_pattern(model, "attention_mlp", vision=False)).fullmatch
    names = [name for name, module in model.named_modules() if matches(name) and isinstance(module, nn.Linear)]
    if not names:
        raise ConfigError(
            f"no linear layer of {type(model).__name__} is called as in the known language models; LoRA needs them"
        )
    return names


def require_used_patterns(patterns: Iterable[str], names: list[str]) -> None:
    """Refuses patterns of layers with a rank of their own that no target has; PEFT would ignore them.

    Args:
        patterns: regular expressions of the ends of module names, as PEFT reads them.
        names: of the targets.

    Raises:
        ConfigError: naming the pattern.
    """
    for pattern in patterns:
        try:
            matches = re.compile(rf"(.*\.)?({pattern})$").match
        except re.error as error:
            raise ConfigError(f"lora.per_layer has {pattern!r}, which is no regular expression: {error}") from error
        if not any(matches(name) for name in names):
            raise ConfigError(f"lora.per_layer has {pattern!r}, which matches none of the targets, such as {names[0]}")


def _require_inside(model: PreTrainedModel, names: list[str], *, vision: bool) -> None:
    decoder = f"{decoder_path(model)}.layers."
    blocks = f"{_VISION_BLOCKS[str(model.config.model_type)]}." if vision else None
    outside = [
        name for name in names if not name.startswith(decoder) and (blocks is None or not name.startswith(blocks))
    ]
    if outside:
        raise ConfigError(
            f"lora.targets matches {_some(outside)}, outside the language model's blocks ({decoder}*"
            + (f" and the tower's, {blocks}*" if blocks else "")
            + "); a projector learns whole, by trainer.projector_learning_rate"
        )
    if blocks is not None and not any(name.startswith(blocks) for name in names):
        raise ConfigError(f"lora.vision is true, but lora.targets matches nothing in the vision tower ({blocks}*)")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(names[:2]) + more
