"""A causal language model in, the same model with LoRA on its own layers out; nothing else becomes trainable."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedModel

from velm_train.core.errors import ConfigError
from velm_train.models.initialisation import seeded_init

LoraVariant = Literal["lora", "rslora", "dora", "pissa"]
"""Plain LoRA, rank-stabilised scaling, weight-decomposed, or started from the principal singular vectors."""

LoraTargets = Literal["attention", "attention_mlp"]
"""Which linear layers of every decoder block learn."""

_ATTENTION = r"self_attn\.(?:q|k|v|o)_proj"
_MLP = r"mlp\.(?:gate|up|down)_proj"
_NOT_VISION = r"(?!.*(?:vision|visual))"
_PISSA_INIT = "pissa_niter_16"


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraSettings:
    """What shapes the LoRA.

    Attributes:
        r: rank, at least 1.
        alpha: numerator of the scale, alpha / r ("rslora": alpha / sqrt(r)).
        dropout: share of inputs dropped in front of the adapters while training, 0..1.
    """

    r: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    variant: LoraVariant = "lora"
    targets: LoraTargets = "attention_mlp"

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            ConfigError: if a value is out of its range.
        """
        if self.r < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise ConfigError(
                f"lora r is {self.r} (at least 1), alpha {self.alpha} (above 0), dropout {self.dropout} "
                "(0 up to below 1)"
            )
        if self.variant not in get_args(LoraVariant):
            raise ConfigError(f"lora variant is {self.variant!r}; allowed: {', '.join(get_args(LoraVariant))}")
        if self.targets not in get_args(LoraTargets):
            raise ConfigError(f"lora targets is {self.targets!r}; allowed: {', '.join(get_args(LoraTargets))}")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainablePart:
    """One row of the table of what learns."""

    group: str
    num_tensors: int
    num_parameters: int


def target_pattern(targets: LoraTargets) -> str:
    """Returns the regular expression of module names; it never matches inside a vision tower."""
    parts = _ATTENTION if targets == "attention" else f"(?:{_ATTENTION}|{_MLP})"
    return rf"{_NOT_VISION}.*layers\.\d+\.{parts}"


def attach_lora(language_model: PreTrainedModel, settings: LoraSettings, *, base_name: str, seed: int) -> PeftModel:
    """Freezes a model and adds LoRA; its output is unchanged until training ("pissa": up to rounding).

    Args:
        language_model: changed in place.
        settings: rank, scale, variant and targets.
        base_name: what the saved adapter calls its base.
        seed: root seed of the run. "pissa" does not use it: what it takes out of the base weights must not
            differ between the run that trains an adapter and the run that loads it.
    """
    pissa = settings.variant == "pissa"
    peft_config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        use_rslora=settings.variant == "rslora",
        use_dora=settings.variant == "dora",
        init_lora_weights=_PISSA_INIT if pissa else True,
        target_modules=target_pattern(settings.targets),
        task_type="CAUSAL_LM",
        base_model_name_or_path=base_name,
    )
    language_model.name_or_path = base_name  # peft takes the name from here
    with seeded_init(0 if pissa else seed, "lora"), warnings.catch_warnings():
        # peft reads a property that transformers has renamed.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        return get_peft_model(language_model, peft_config)


def describe_lora(language_model: PeftModel) -> dict[str, Any]:
    """Returns what an adapter file must agree on with the model that loads it; dropout is not part of it."""
    peft_config = language_model.peft_config["default"]
    return {
        "r": peft_config.r,
        "alpha": float(peft_config.lora_alpha),
        "rslora": bool(peft_config.use_rslora),
        "dora": bool(peft_config.use_dora),
        "init": str(peft_config.init_lora_weights),
        "targets": str(peft_config.target_modules),
    }


def trainable_parts(groups: Mapping[str, list[torch.nn.Parameter]]) -> list[TrainablePart]:
    """Returns one row per group, in the order of the groups."""
    return [
        TrainablePart(
            group=group,
            num_tensors=len(parameters),
            num_parameters=sum(parameter.numel() for parameter in parameters),
        )
        for group, parameters in groups.items()
    ]


@contextmanager
def merged(language_model: PeftModel) -> Iterator[None]:
    """Adds LoRA into the base weights inside the block, and puts the very same weights back after it.

    Subtracting again would leave rounding errors behind; a copy of the changed weights does not.
    """
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
