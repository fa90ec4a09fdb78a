"""Modes, checkpoints and gradients concern exactly what learns."""

import pytest
import torch
from torch import nn

from velm_train.core.errors import ArtifactError
from velm_train.training.trainable import (
    find_unreached,
    keep_trainable_only,
    require_trainable_exactly,
    train_only_what_learns,
)


@pytest.fixture
def module():
    frozen = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.BatchNorm1d(3)).requires_grad_(False)
    return nn.ModuleDict({"frozen": frozen, "learning": nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))}).eval()


def test_frozen_parts_stay_in_eval_mode_and_learning_ones_do_not(module):
    train_only_what_learns(module)
    assert not any(part.training for part in module["frozen"].modules())
    assert all(part.training for part in module["learning"].modules())


def test_parameters_without_a_gradient_are_named(module):
    other = nn.Linear(2, 2)
    module["unused"] = other
    module["learning"](module["frozen"](torch.ones(1, 3))).sum().backward()
    assert find_unreached(module) == ["unused.weight", "unused.bias"]
    other(torch.zeros(1, 2)).sum().backward()  # a gradient of zero has been there
    assert find_unreached(module) == []


def test_checkpoints_hold_what_learns_alone(module):
    checkpoint = {"state_dict": dict(module.state_dict())}
    keep_trainable_only(module, checkpoint)
    assert set(checkpoint["state_dict"]) == {"learning.0.weight", "learning.0.bias"}
    require_trainable_exactly(module, checkpoint)
    checkpoint["state_dict"]["frozen.0.weight"] = checkpoint["state_dict"].pop("learning.0.bias")
    with pytest.raises(ArtifactError, match=r"missing \['learning.0.bias'\] \(1\), unknown \['frozen.0.weight'\]"):
        require_trainable_exactly(module, checkpoint)
