"""A run of a sweep ends early where the rule says so, told the mean training loss or the validation loss."""

from dataclasses import replace

import numpy as np
import pytest

from velm_train.core.pruning import TrialPruned
from velm_train.training.fit import fit_adapter
from velm_train.training.optimiser import Optimisation
from velm_train.training.validation import HeldOut
from velm_train.training.windows import PassLimits

RATES = {"lora": 1e-2, "projector": 2e-3, "look_twice": 5e-3}


class Told:
    """Remembers what it is told, and ends the run from a step on."""

    def __init__(self, *, ends_at: int | None = None) -> None:
        self.losses: dict[int, float] = {}
        self._ends_at = ends_at

    def prunes(self, loss: float, *, step: int, max_steps: int) -> bool:
        assert max_steps == 6
        self.losses[step] = loss
        return self._ends_at is not None and step >= self._ends_at


@pytest.fixture
def fit(tiny_model, tiny_data, cpu, output_in, tmp_path):
    def run(rule: Told, *, held_out: HeldOut | None = None):
        output = replace(output_in(tmp_path), prune=rule, log_every=2)
        optimisation = Optimisation(max_steps=6, learning_rates=RATES, weight_decay=0.01, warmup_fraction=0.2)
        return fit_adapter(
            tiny_model(), tiny_data.module(), optimisation=optimisation, engine=cpu, output=output, held_out=held_out
        )

    return run


def test_rule_is_told_the_mean_loss_since_it_was_last_told(fit) -> None:
    rule = Told()
    losses = fit(rule).losses
    assert rule.losses == pytest.approx({2: np.mean(losses[:2]), 4: np.mean(losses[2:4]), 6: np.mean(losses[4:])})


def test_run_ends_at_the_step_that_the_rule_names(fit) -> None:
    rule = Told(ends_at=3)
    with pytest.raises(TrialPruned, match="pruned at step 4 of 6"):
        fit(rule)
    assert list(rule.losses) == [2, 4]


def test_last_step_is_never_cut(fit) -> None:
    assert len(fit(Told(ends_at=6)).losses) == 6


def test_rule_is_told_validation_losses_where_there_are_some(fit, tiny_data) -> None:
    rule = Told()
    held_out = HeldOut(
        facts=tiny_data.facts[:4],
        collate=tiny_data.collate,
        limits=PassLimits(batch_size=4, token_budget=0),
        every=3,
        seed=0,
    )
    fit(rule, held_out=held_out)
    assert list(rule.losses) == [3, 6]
