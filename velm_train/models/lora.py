"""A causal or vision-language model in, the same with LoRA on chosen layers out; nothing else becomes trainable."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel

from velm_train.core.errors import ConfigError
from velm_train.models.initialisation import seeded_init
from velm_train.models.lora_targets import (
    decoder_layers,
    find_targets,
    require_used_patterns,
    target_pattern,
)
from velm_train.models.pissa import remember_start
from velm_train.models.quantisation import QUANTISATIONS, Quantisation, quantisation_of, quantise

LoraVariant = Literal["lora", "rslora", "dora", "pissa"]
"""Plain LoRA, rank-stabilised scaling, weight-decomposed, or started from the principal singular vectors."""

_PISSA_INIT = "pissa_niter_16"


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraSettings:
    """What shapes the LoRA.

    Attributes:
        r: rank, at least 1.
        alpha: numerator of the scale, alpha / r ("rslora": alpha / sqrt(r), Kalajdzievski 2023, so the same alpha
            makes steps sqrt(r) times as large).
        dropout: share of inputs dropped in front of the adapters while training, 0..1.
        targets: "attention" or "attention_mlp" of every block of the language model, or a regular expression of
            full module names.
        vision: True to let LoRA into the vision tower's blocks as well; stored features do not know of it.
        quantisation: of the language model's frozen linear layers.
        rank_pattern: end of a target's name, a regular expression -> its own rank.
        alpha_pattern: the same -> its own alpha.
    """

    r: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    variant: LoraVariant = "lora"
    targets: str = "attention_mlp"
    vision: bool = False
    quantisation: Quantisation = "none"
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks ranges and combinations.

        Raises:
            ConfigError: if a value is out of its range, or two do not go together.
        """
        if self.r < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise ConfigError(
                f"lora r is {self.r} (at least 1), alpha {self.alpha} (above 0), dropout {self.dropout} "
                "(0 up to below 1)"
            )
        for name, allowed in (("variant", get_args(LoraVariant)), ("quantisation", QUANTISATIONS)):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"lora {name} is {getattr(self, name)!r}; allowed: {', '.join(allowed)}")
        for pattern, value in (*self.rank_pattern.items(), *self.alpha_pattern.items()):
            if value <= 0:
                raise ConfigError(f"lora rank_pattern or alpha_pattern has {pattern!r}: {value}; it must be above 0")
        require_variant_fits(self.variant, quantisation=self.quantisation)


def require_variant_fits(variant: str, *, quantisation: str) -> None:
    """Refuses variants that quantised weights cannot carry.

    Raises:
        ConfigError: saying why.
    """
    if quantisation == "none":
        return
    if variant == "pissa":
        raise ConfigError(
            f"lora.variant is 'pissa' with lora.quantisation={quantisation!r}: PiSSA takes its adapter out of the base "
            "weights, and rounding what is left would undo it; use variant lora, rslora or dora, or no quantisation"
        )
    if variant == "dora" and quantisation == "int8":
        raise ConfigError(
            "lora.variant is 'dora' with lora.quantisation='int8': peft loses the scales of 8-bit weights when it "
            "measures their norms; use lora.quantisation=nf4, or variant lora or rslora"
        )


def attach_lora(language_model: PreTrainedModel, settings: LoraSettings, *, base_name: str, seed: int) -> PeftModel:
    """Freezes a model, quantises it if told so, and adds LoRA.

    The output is unchanged by LoRA until training, up to rounding with "dora" and "pissa".

    Args:
        language_model: changed in place.
        settings: rank, scale, variant, targets and quantisation.
        base_name: what the saved adapter calls its base.
        seed: root seed of the run. "pissa" does not use it: what it takes out of the base weights must not
            differ between the run that trains an adapter and the run that loads it.

    Raises:
        ConfigError: if targets or patterns do not fit the model, or it cannot be quantised here.
    """
    names = find_targets(language_model, settings.targets, vision=settings.vision)
    require_used_patterns([*settings.rank_pattern, *settings.alpha_pattern], names)
    pissa = settings.variant == "pissa"
    if pissa:
        _require_rank_fits(language_model, names, largest=max(settings.r, *settings.rank_pattern.values(), 1))
    peft_config = _peft_config(language_model, settings, base_name=base_name)
    quantise(language_model, decoder_layers(language_model), kind=settings.quantisation)
    language_model.name_or_path = base_name  # peft takes the name from here
    with seeded_init(0 if pissa else seed, "lora"), warnings.catch_warnings():
        # peft reads a property that transformers has renamed.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        tuned = get_peft_model(language_model, peft_config)
    if pissa:
        remember_start(tuned)
    return tuned


def _peft_config(language_model: PreTrainedModel, settings: LoraSettings, *, base_name: str) -> LoraConfig:
    return LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        use_rslora=settings.variant == "rslora",
        use_dora=settings.variant == "dora",
        init_lora_weights=_PISSA_INIT if settings.variant == "pissa" else True,
        target_modules=target_pattern(language_model, settings.targets, vision=settings.vision),
        rank_pattern=dict(settings.rank_pattern),
        alpha_pattern=dict(settings.alpha_pattern),
        task_type="CAUSAL_LM",
        base_model_name_or_path=base_name,
    )


def _require_rank_fits(language_model: PreTrainedModel, names: list[str], *, largest: int) -> None:
    """Refuses a rank that a layer does not have: PiSSA would end up with fewer rows than its file says."""
    for name in names:
        layer = language_model.get_submodule(name)
        if largest > min(layer.in_features, layer.out_features):
            raise ConfigError(
                f"lora.r is {largest} with variant pissa, but {name} has only "
                f"{min(layer.in_features, layer.out_features)} singular values; lower it, or leave {name} out"
            )


def describe_lora(language_model: PeftModel) -> dict[str, Any]:
    """Returns what an adapter file must agree on with the model that loads it; dropout is not part of it."""
    peft_config = language_model.peft_config["default"]
    described = {
        "r": peft_config.r,
        "alpha": float(peft_config.lora_alpha),
        "rslora": bool(peft_config.use_rslora),
        "dora": bool(peft_config.use_dora),
        "init": str(peft_config.init_lora_weights),
        "targets": str(peft_config.target_modules),
    }
    if peft_config.rank_pattern or peft_config.alpha_pattern:
        described["rank_pattern"] = dict(peft_config.rank_pattern)
        described["alpha_pattern"] = {key: float(value) for key, value in peft_config.alpha_pattern.items()}
    if quantisation_of(language_model) != "none":
        described["quantisation"] = quantisation_of(language_model)
    return described


def has_lora(module: nn.Module) -> bool:
    """Returns True if LoRA is on some layer of a module."""
    return any(isinstance(child, LoraLayer) for child in module.modules())


@contextmanager
def merged(language_model: PeftModel) -> Iterator[None]:
    """Adds LoRA into the base weights inside the block, and puts the very same weights back after it.

    Subtracting again would leave rounding errors behind; a copy of the changed weights does not. A quantised model
    stays as it is: it gives the same answers, and no sooner.
    """
    if quantisation_of(language_model) != "none":
        yield
        return
    layers = [module for module in language_model.modules() if isinstance(module, LoraLayer)]
    kept = [layer.get_base_layer().weight.detach().clone() for layer in layers]
    language_model.merge_adapter()
    try:
        yield
    finally:
        language_model.unmerge_adapter()
        with torch.no_grad():
            for layer, weight in zip(layers, kept, strict=True):
                layer.get_base_layer().weight.copy_(weight)
