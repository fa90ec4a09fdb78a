"""Rates by group, no decay on vectors and embeddings, warm-up and cosine."""

import math
import sys

import pytest
import torch
from torch import nn

from velm_train.core.errors import ConfigError
from velm_train.training.optimiser import (
    Optimisation,
    frozen_where_rate_is_zero,
    learning_rate_factor,
    make_optimiser,
    make_parameter_groups,
    require_runs_here,
)


@pytest.fixture
def parts():
    module = nn.ModuleDict({"lora": nn.Linear(3, 2), "words": nn.Embedding(4, 2), "norm": nn.LayerNorm(2)})
    groups = {
        "lora": list(module["lora"].parameters()),
        "projector": [*module["words"].parameters(), *module["norm"].parameters()],
    }
    return module, groups


def optimisation(**rates):
    return Optimisation(max_steps=10, learning_rates=rates, weight_decay=0.1)


def test_each_group_has_its_own_rate_and_only_matrices_decay(parts):
    module, groups = parts
    made = make_parameter_groups(module, groups, optimisation=optimisation(lora=1e-3, projector=2e-3))
    found = [(group["name"], group["lr"], group["weight_decay"], group["params"]) for group in made]
    assert [entry[:3] for entry in found] == [("lora", 1e-3, 0.1), ("lora", 1e-3, 0.0), ("projector", 2e-3, 0.0)]
    assert found[0][3][0] is module["lora"].weight
    assert found[1][3][0] is module["lora"].bias
    assert {id(p) for p in found[2][3]} == {id(p) for p in groups["projector"]}


def test_optimiser_steps_at_the_rates_of_the_schedule(parts):
    module, groups = parts
    made = make_optimiser(module, groups, optimisation=optimisation(lora=1e-3, projector=2e-3, look_twice=1.0))
    # The first of one warm-up step: the full rate.
    assert [group["lr"] for group in made["optimizer"].param_groups] == [1e-3, 1e-3, 2e-3]


def test_group_without_a_rate_is_refused(parts):
    with pytest.raises(ConfigError, match=r"no learning rate for parameter groups \['projector'\]"):
        make_parameter_groups(*parts, optimisation=optimisation(lora=1e-3))


def test_all_rates_zero_is_refused(parts):
    with pytest.raises(ConfigError, match="nothing to train"):
        make_parameter_groups(*parts, optimisation=optimisation(lora=0.0, projector=0.0))


def test_rate_zero_freezes_for_the_time_of_the_context(parts):
    module, groups = parts
    module["norm"].bias.requires_grad_(False)
    with frozen_where_rate_is_zero(groups, learning_rates={"lora": 1.0, "projector": 0.0}):
        assert [p.requires_grad for p in module.parameters()] == [True, True, False, False, False]
    assert module["norm"].weight.requires_grad
    assert not module["norm"].bias.requires_grad


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.25), (3, 1.0), (4, 1.0), (8, 0.1 + 0.9 * 0.5), (12, 0.1), (20, 0.1)],
)
def test_factor_rises_linearly_then_follows_half_a_cosine(step, expected):
    assert learning_rate_factor(step, max_steps=12, warmup_steps=4, min_fraction=0.1) == pytest.approx(expected)


def test_factor_without_warmup_starts_at_the_peak():
    assert learning_rate_factor(0, max_steps=4, warmup_steps=0, min_fraction=0.0) == 1.0
    quarter = 0.5 * (1 + math.cos(math.pi / 4))
    assert learning_rate_factor(1, max_steps=4, warmup_steps=0, min_fraction=0.0) == pytest.approx(quarter)


def test_rates_are_those_adamw_uses(parts):
    module, groups = parts
    made = make_optimiser(module, groups, optimisation=optimisation(lora=1e-2, projector=0.0))
    before = module["words"].weight.clone()
    module["lora"](torch.ones(1, 3)).sum().backward()
    made["optimizer"].step()
    assert torch.equal(module["words"].weight, before)


@pytest.mark.parametrize("kind", ["adamw", "adamw_fused", "adamw_8bit"])
def test_every_kind_keeps_rates_and_decays_of_the_groups(parts, kind):
    module, groups = parts
    settings = Optimisation(
        max_steps=10, learning_rates={"lora": 1e-3, "projector": 2e-3}, weight_decay=0.1, warmup_fraction=0.5, kind=kind
    )
    made = make_optimiser(module, groups, optimisation=settings)["optimizer"]
    assert [(group["lr"], group["weight_decay"]) for group in made.param_groups] == [
        (pytest.approx(1e-3 / 5), 0.1),
        (pytest.approx(1e-3 / 5), 0.0),
        (pytest.approx(2e-3 / 5), 0.0),
    ]
    assert made.param_groups[0]["betas"] == (0.9, 0.999)
    assert made.param_groups[0]["eps"] == 1e-8


@pytest.mark.parametrize(("kind", "tolerance"), [("adamw_fused", 1e-6), ("adamw_8bit", 0.05)])
def test_other_kinds_go_the_way_of_adamw(kind, tolerance):
    """A least-squares fit of 96 x 64 weights, more than the 4096 below which moments keep 32 bits."""

    def way(kind):
        torch.manual_seed(0)
        module, inputs = nn.Linear(96, 64), torch.randn(256, 96)
        targets = inputs @ torch.randn(96, 64) * 0.1
        start = module.weight.detach().clone()
        settings = Optimisation(max_steps=50, learning_rates={"lora": 1e-2}, weight_decay=0.01, kind=kind)
        made = make_optimiser(module, {"lora": list(module.parameters())}, optimisation=settings)
        for _ in range(50):
            made["optimizer"].zero_grad()
            loss = (module(inputs) - targets).square().mean()
            loss.backward()
            made["optimizer"].step()
            made["lr_scheduler"]["scheduler"].step()
        return loss.item(), module.weight.detach() - start

    (loss, moved), (other_loss, other) = way("adamw"), way(kind)
    assert other_loss == pytest.approx(loss, rel=tolerance)
    assert (other - moved).norm() <= tolerance * moved.norm()


def test_what_needs_a_gpu_is_refused_without_one():
    with pytest.raises(ConfigError, match=r"'paged_adamw_8bit', which needs a GPU.*choose adamw, adamw_fused or"):
        require_runs_here("paged_adamw_8bit", device=torch.device("cpu"))
    for kind in ("adamw", "adamw_fused", "adamw_8bit"):
        require_runs_here(kind, device=torch.device("cpu"))


def test_bits_without_their_library_are_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(
        ConfigError, match=r"trainer\.optimiser=adamw_8bit needs bitsandbytes.*trainer\.optimiser=adamw"
    ):
        require_runs_here("adamw_8bit", device=torch.device("cpu"))
