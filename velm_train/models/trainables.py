"""A model, its groups and their learning rates in, the table of what learns out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from velm_train.models.quantisation import num_weights

_BY_MODULE = "lora"
_LAYER_NUMBER = re.compile(r"\.\d+(?=\.)")
_PEFT_PREFIX = re.compile(r"^.*?base_model\.model\.")
_LORA_LEAF = re.compile(r"\.lora_(?:A|B|magnitude_vector)\..*$")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainablePart:
    """One row of the table of what learns.

    Attributes:
        group: "lora", "projector" or "look_twice".
        modules: the layers of the group in this row, their numbers as `*`; "" for all of it.
        num_tensors: of these layers.
        num_parameters: of these layers.
        learning_rate: peak; 0 where the group is frozen.
        dtype: such as "float32"; several are joined by "+".
    """

    group: str
    modules: str
    num_tensors: int
    num_parameters: int
    learning_rate: float
    dtype: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Trainables:
    """What learns, and beside how much that does not.

    Attributes:
        parts: LoRA by kind of layer, then one row for each other group.
        num_learning: parameters with a rate above 0.
        num_all: weights of the whole model, those of 4 bits counted singly; the embedded model's towers, which load
            when first needed, are not among them.
    """

    parts: tuple[TrainablePart, ...]
    num_learning: int
    num_all: int

    def as_json(self) -> dict[str, Any]:
        """Returns JSON values."""
        return asdict(self)


def find_trainables(
    model: nn.Module, groups: Mapping[str, Sequence[nn.Parameter]], *, learning_rates: Mapping[str, float]
) -> Trainables:
    """Returns the table of what learns.

    Args:
        model: holds every parameter of `groups`.
        groups: parameters by group, as `trainable_groups()` gives them.
        learning_rates: peak rate of every group.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rows: dict[tuple[str, str], list[nn.Parameter]] = {}
    for group, parameters in groups.items():
        for parameter in parameters:
            modules = _modules(names[id(parameter)]) if group == _BY_MODULE else ""
            rows.setdefault((group, modules), []).append(parameter)
    parts = tuple(
        TrainablePart(
            group=group,
            modules=modules,
            num_tensors=len(members),
            num_parameters=sum(member.numel() for member in members),
            learning_rate=float(learning_rates[group]),
            dtype="+".join(sorted({_name(member.dtype) for member in members})),
        )
        for (group, modules), members in rows.items()
    )
    return Trainables(
        parts=parts,
        num_learning=sum(part.num_parameters for part in parts if part.learning_rate > 0),
        num_all=sum(num_weights(parameter) for parameter in model.parameters()),
    )


def _modules(name: str) -> str:
    return _LAYER_NUMBER.sub(".*", _LORA_LEAF.sub("", _PEFT_PREFIX.sub("", name)))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
