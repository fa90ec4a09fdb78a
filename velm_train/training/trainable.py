"""A module goes in; train modes and checkpoints that concern only what learns come out."""

from typing import Any

import torch

from velm_train.core.errors import ArtifactError


def train_only_what_learns(module: torch.nn.Module) -> None:
    """Puts the module in train mode and every part without a learning parameter back in eval mode.

    Lightning leaves modules in the mode it finds them, and Hugging Face models come in eval mode: without this
    call dropout and activation checkpointing are silently off. A frozen tower must stay in eval mode, or its
    batch norms would follow the data. Parts without any parameter, such as dropout, follow their parent.
    """
    module.train()
    _freeze_modes(module)


def _freeze_modes(module: torch.nn.Module) -> None:
    for child in module.children():
        parameters = list(child.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            child.eval()
        else:
            _freeze_modes(child)


def find_unreached(module: torch.nn.Module) -> list[str]:
    """Returns the names of learning parameters that the last backward pass gave no gradient at all."""
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad and parameter.grad is None]


def keep_trainable_only(module: torch.nn.Module, checkpoint: dict[str, Any]) -> None:
    """Drops from a Lightning checkpoint every tensor that does not learn."""
    names = _trainable_names(module)
    checkpoint["state_dict"] = {name: value for name, value in checkpoint["state_dict"].items() if name in names}


def require_trainable_exactly(module: torch.nn.Module, checkpoint: dict[str, Any]) -> None:
    """Checks that a checkpoint holds the tensors that learn, all of them and no other.

    Raises:
        ArtifactError: naming what is missing or unknown.
    """
    expected, found = _trainable_names(module), set(checkpoint["state_dict"])
    if expected != found:
        missing, unknown = sorted(expected - found), sorted(found - expected)
        raise ArtifactError(
            f"checkpoint does not fit the model: missing {missing[:3]} ({len(missing)}), unknown {unknown[:3]} "
            f"({len(unknown)}); use ckpt_path=none to start anew, or restore the settings it was written with"
        )


def _trainable_names(module: torch.nn.Module) -> set[str]:
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}
