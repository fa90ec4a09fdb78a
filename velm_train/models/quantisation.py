"""A language model's linear layers in, the same layers with weights of 4 or 8 bits out, for LoRA to be trained on.

| kind | weights | computed in |
|---|---|---|
| nf4 | 4-bit NormalFloat, blocks of 64, their scales quantised once more (Dettmers et al. 2023, QLoRA, section 3) | the model's own type |
| int8 | 8-bit rows with a scale each; activations above 6 stay in 16 bits (Dettmers et al. 2022, LLM.int8(), section 3) | 8-bit products |

Layers are named one by one. What is skipped by a name's part, as transformers does it, is easily missed: skipping
"visual" leaves the tower of Qwen2.5-VL quantised.
"""  # noqa: E501 - a table row is one line

import importlib
import logging
from collections.abc import Iterable
from types import ModuleType
from typing import Any, Literal, get_args

import torch
from torch import nn

from velm_train.core.errors import ConfigError

Quantisation = Literal["none", "nf4", "int8"]
"""How the frozen linear layers of the language model are stored."""

QUANTISATIONS = get_args(Quantisation)

_LAYER_KINDS: dict[str, Quantisation] = {"Linear4bit": "nf4", "Linear8bitLt": "int8"}
_PEFT_FLAGS: dict[Quantisation, str] = {"nf4": "is_loaded_in_4bit", "int8": "is_loaded_in_8bit"}
_OUTLIER_THRESHOLD = 6.0
_NF4_BLOCK = 64


def quantise(model: nn.Module, names: Iterable[str], *, kind: Quantisation) -> None:
    """Replaces linear layers by quantised ones, each on the device where its weights are; nothing else is touched.

    Args:
        model: changed in place; before PEFT wraps it.
        names: full names of linear layers.
        kind: "none" changes nothing.

    Raises:
        ConfigError: if bitsandbytes is not installed or has no kernels for the device.
    """
    if kind == "none":
        return
    bnb = load_bitsandbytes()
    make = _nf4_layer if kind == "nf4" else _int8_layer
    for name in names:
        layer = model.get_submodule(name)
        assert type(layer) is nn.Linear, f"{name} is a {type(layer).__name__}"
        _require_whole_blocks(name, layer, kind=kind)
        try:
            quantised = make(bnb, layer)
        except RuntimeError as error:  # no kernel: from torch's dispatcher or the library's own loader
            raise ConfigError(
                f"lora.quantisation is {kind!r}, but the installed bitsandbytes cannot do it on {layer.weight.device}: "
                f"{error}; choose lora=default, or a machine with CUDA"
            ) from error
        quantised.train(layer.training)
        replace(model, name, quantised)
    setattr(model, _PEFT_FLAGS[kind], True)  # by this PEFT chooses its own layers for quantised weights


def quantisation_of(model: nn.Module) -> Quantisation:
    """Returns how the linear layers of a model, with or without LoRA, are stored."""
    kinds = {_LAYER_KINDS[kind] for kind in _layer_types(model) if kind in _LAYER_KINDS}
    assert len(kinds) <= 1, f"a mixture of {sorted(kinds)}"
    return kinds.pop() if kinds else "none"


def plain_weight(layer: nn.Module) -> torch.Tensor:
    """Returns the weight matrix that a linear layer stands for, as a tensor of its own."""
    weight: Any = layer.weight
    state: Any = getattr(layer, "state", None)
    kind = type(layer).__name__
    if kind == "Linear4bit":
        nf4: torch.Tensor = load_bitsandbytes().functional.dequantize_4bit(weight.data, weight.quant_state)
        return nf4
    if kind == "Linear8bitLt":
        scales = weight.SCB if weight.SCB is not None else state.SCB
        int8: torch.Tensor = load_bitsandbytes().functional.int8_vectorwise_dequant(weight.data, scales)
        return int8
    return torch.clone(weight.detach())


def num_weights(parameter: nn.Parameter) -> int:
    """Returns how many weights a parameter stands for; two of 4 bits share a byte."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else int(torch.Size(state.shape).numel())


def replace(model: nn.Module, name: str, module: nn.Module) -> None:
    """Puts a module in the place of another."""
    parent, _, own_name = name.rpartition(".")
    setattr(model.get_submodule(parent), own_name, module)


def load_bitsandbytes(what: str = "lora.quantisation", *, instead: str = "lora=default") -> ModuleType:
    """Returns the library.

    Args:
        what: needs it.
        instead: the choice that does not.

    Raises:
        ConfigError: if it is not installed.
    """
    try:
        return importlib.import_module("bitsandbytes")
    except ImportError as error:
        raise ConfigError(
            f"{what} needs bitsandbytes, which cannot be imported "
            f"({error}); pip install -c constraints.txt bitsandbytes, or choose {instead}"
        ) from error


def _require_whole_blocks(name: str, layer: nn.Linear, *, kind: Quantisation) -> None:
    """Refuses rows that bitsandbytes 0.50 reads back with the scales of other blocks on the CPU, without a word."""
    if kind == "nf4" and layer.weight.device.type == "cpu" and layer.in_features % _NF4_BLOCK:
        raise ConfigError(
            f"lora.quantisation is 'nf4', but {name} has rows of {layer.in_features}, no multiple of {_NF4_BLOCK}: on "
            "the CPU bitsandbytes would read them back wrong; choose lora.quantisation=int8 or none"
        )


def _nf4_layer(bnb: ModuleType, layer: nn.Linear) -> nn.Module:
    quantised: Any = bnb.nn.Linear4bit(
        layer.in_features,
        layer.out_features,
        bias=layer.bias is not None,
        compute_dtype=layer.weight.dtype,
        compress_statistics=True,
        quant_type="nf4",
        device="meta",
    )
    weight = bnb.nn.Params4bit(layer.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4")
    quantised.weight = weight.to(layer.weight.device)
    # On some CPUs bitsandbytes rewrites the weights at the first pass in eval mode and computes in bfloat16 from then
    # on. Without it, training and evaluation read the same numbers.
    quantised.support_avx512bf16_for_cpu = False
    quantised.bias = layer.bias
    return _frozen(quantised)


def _int8_layer(bnb: ModuleType, layer: nn.Linear) -> nn.Module:
    # One line for every product otherwise: that its inputs are cast to float16.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    quantised: Any = bnb.nn.Linear8bitLt(
        layer.in_features,
        layer.out_features,
        bias=layer.bias is not None,
        has_fp16_weights=False,
        threshold=_OUTLIER_THRESHOLD,
        device="meta",
    )
    weight = bnb.nn.Int8Params(layer.weight.data, requires_grad=False, has_fp16_weights=False)
    quantised.weight = weight.to(layer.weight.device)
    quantised.bias = layer.bias
    quantised.register_forward_pre_hook(_follow_input)
    return _frozen(quantised)


def _follow_input(layer: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
    """Moves the scales of 8-bit rows to where the input is; moving the whole model leaves them behind."""
    holders: tuple[Any, Any] = (layer.weight, layer.state)
    for holder in holders:
        for name in ("CB", "SCB"):
            tensor = getattr(holder, name)
            if tensor is not None and tensor.device != args[0].device:
                setattr(holder, name, tensor.to(args[0].device))


def _frozen(module: nn.Module) -> nn.Module:
    return module.requires_grad_(False)


def _layer_types(model: nn.Module) -> set[str]:
    return {type(module).__name__ for module in model.modules() if isinstance(module, nn.Linear)}
