"""A PiSSA adapter in, plain LoRA for the original base out, and back again bit by bit.

PiSSA (Meng et al. 2024, section 3) takes the principal part s B0 A0 out of a weight W and trains from there, so that
its A and B mean nothing beside the W that everybody else has. On W the same update is LoRA of twice the rank:

    (W - s B0 A0) + s B A  =  W + s [B, -B0] [A; A0]

Files hold the right-hand side, which PEFT reads on the original weights without knowing of PiSSA. The first half of it
is what training continues from, the second half says what was taken out.
"""

from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict

_ADAPTER = "default"
_START = "velm_pissa_start"
_DOUBLED = ("r", "lora_alpha")
_DOUBLED_PATTERNS = ("rank_pattern", "alpha_pattern")


def is_pissa(language_model: PeftModel) -> bool:
    """Returns True if the adapter began as the principal part of its base weights."""
    return str(language_model.peft_config[_ADAPTER].init_lora_weights).startswith("pissa")


def remember_start(language_model: PeftModel) -> None:
    """Keeps a copy of a fresh PiSSA adapter: what was taken out of the base weights."""
    setattr(language_model, _START, _adapter_tensors(language_model))


def portable_config(language_model: PeftModel) -> dict[str, Any]:
    """Returns PEFT's configuration of what `portable_tensors` returns."""
    config: dict[str, Any] = language_model.peft_config[_ADAPTER].to_dict() | {"inference_mode": True}
    if not is_pissa(language_model):
        return config
    doubled = {name: 2 * config[name] for name in _DOUBLED}
    patterns = {name: {key: 2 * value for key, value in config[name].items()} for name in _DOUBLED_PATTERNS}
    return config | doubled | patterns | {"init_lora_weights": True}


def portable_tensors(language_model: PeftModel) -> dict[str, torch.Tensor]:
    """Returns the adapter's tensors on the CPU, by PEFT's names, such that they fit the original base weights."""
    own = _adapter_tensors(language_model)
    if not is_pissa(language_model):
        return own
    start = getattr(language_model, _START)
    return {
        name: torch.cat([tensor, start[name]]) if ".lora_A." in name else torch.cat([tensor, -start[name]], dim=1)
        for name, tensor in own.items()
    }


def load_portable(language_model: PeftModel, tensors: dict[str, torch.Tensor]) -> None:
    """Puts what `portable_tensors` returned into a model of the same settings.

    The decomposition may have come out otherwise on another machine. So the base of a PiSSA model is set to the
    original weights less what the file says was taken out of them.

    Args:
        language_model: changed in place.
        tensors: of the same names and shapes as its own portable ones.
    """
    if not is_pissa(language_model):
        set_peft_model_state_dict(language_model, tensors)
        return
    own, start = {}, {}
    for name, tensor in tensors.items():
        first, second = tensor.chunk(2, dim=0 if ".lora_A." in name else 1)
        own[name] = first.contiguous()
        start[name] = (second if ".lora_A." in name else -second).contiguous()
    _move_base(language_model, start)
    set_peft_model_state_dict(language_model, own)
    setattr(language_model, _START, start)


@torch.no_grad()
def _move_base(language_model: PeftModel, start: dict[str, torch.Tensor]) -> None:
    before = getattr(language_model, _START)
    for name, module in language_model.named_modules():
        if not isinstance(module, LoraLayer):
            continue
        keys = (f"{name}.lora_B.weight", f"{name}.lora_A.weight")
        if all(torch.equal(before[key], start[key]) for key in keys):
            continue
        weight = module.get_base_layer().weight
        taken_out = [part[keys[0]] @ part[keys[1]] for part in (before, start)]
        difference = module.scaling[_ADAPTER] * (taken_out[0] - taken_out[1])
        weight.copy_((weight.float() + difference.to(weight.device)).to(weight.dtype))


def _adapter_tensors(language_model: PeftModel) -> dict[str, torch.Tensor]:
    tensors = get_peft_model_state_dict(language_model, save_embedding_layers=False)
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
