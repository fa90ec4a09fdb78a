"""A model with LoRA in, a plain model that gives the same answers out."""

import logging

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel

from velm_train.core.errors import ConfigError
from velm_train.models.quantisation import plain_weight, quantisation_of, replace

logger = logging.getLogger(__name__)

_ADAPTER = "default"


def merge_into_base(language_model: PeftModel, *, dequantise: bool = False) -> PreTrainedModel:
    """Adds LoRA into the base weights for good and takes the adapters out.

    Args:
        language_model: changed in place; of no use afterwards.
        dequantise: True to turn quantised layers, with LoRA or without, into plain ones. The result answers like the
            quantised model with its adapter (nf4: up to rounding; int8: up to the rounding of activations), not like
            the original weights with the adapter.

    Raises:
        ConfigError: if the base is quantised and `dequantise` is False.
    """
    kind = quantisation_of(language_model)
    base: PreTrainedModel
    if kind == "none":
        base = language_model.merge_and_unload()
        return base
    if not dequantise:
        raise ConfigError(
            f"LoRA cannot be merged into {kind} weights: their steps are larger than what it adds; ask for plain "
            "weights (dequantise), or keep the adapter beside its base"
        )
    logger.warning("weights of %s become plain ones, so that LoRA can be merged: the merged model is larger", kind)
    base = language_model.get_base_model()
    dtype = base.dtype
    for name, module in list(base.named_modules()):
        if isinstance(module, LoraLayer):
            replace(base, name, _plain_layer(module.get_base_layer(), _merged_weight(module).to(dtype)))
    for name, module in list(base.named_modules()):
        if isinstance(module, nn.Linear) and quantisation_of(module) != "none":
            replace(base, name, _plain_layer(module, plain_weight(module).to(dtype)))
    for flag in ("is_loaded_in_4bit", "is_loaded_in_8bit"):
        if hasattr(base, flag):
            delattr(base, flag)
    return base


@torch.no_grad()
def _merged_weight(layer: LoraLayer) -> torch.Tensor:
    base = plain_weight(layer.get_base_layer())
    if _ADAPTER in layer.lora_variant:
        dora: torch.Tensor = layer.lora_variant[_ADAPTER].merge_safe(layer, _ADAPTER, base.float())
        return dora.to(base.dtype)
    plain: torch.Tensor = (base.float() + layer.get_delta_weight(_ADAPTER).float()).to(base.dtype)
    return plain


def _plain_layer(layer: nn.Module, weight: torch.Tensor) -> nn.Linear:
    plain = nn.Linear(weight.shape[1], weight.shape[0], bias=layer.bias is not None, device="meta", dtype=weight.dtype)
    plain.weight = nn.Parameter(weight, requires_grad=False)
    if isinstance(layer.bias, nn.Parameter):
        plain.bias = layer.bias
    return plain
