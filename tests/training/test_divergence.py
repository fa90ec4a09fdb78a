"""A run that diverges stops, keeps no useless checkpoint, and names the samples of the step."""

import json

import pytest
import torch

from velm_train.core.errors import ConfigError
from velm_train.training.fit import fit_adapter
from velm_train.training.optimiser import Optimisation


def optimisation(max_steps):
    return Optimisation(max_steps=max_steps, learning_rates={"lora": 1e-2, "projector": 1e-2, "look_twice": 1e-2})


def test_a_loss_that_is_not_finite_is_a_clear_error(tiny_model, tiny_data, cpu, output_in, tmp_path):
    model = tiny_model()

    def break_weights():
        with torch.no_grad():
            model.projector.weight.fill_(float("nan"))

    model.on_step = break_weights
    with pytest.raises(ConfigError, match=r"diverged: the loss of optimiser step 1 is nan"):
        fit_adapter(model, tiny_data.module(), optimisation=optimisation(2), engine=cpu, output=output_in(tmp_path))
    assert list((tmp_path / "checkpoints").glob("*.ckpt")) == []
    report = json.loads((tmp_path / "diverged.json").read_text())
    (failed,) = report["passes"]
    assert (report["step"], failed["micro_batch"]) == (1, 0)
    assert len(failed["sample_ids"]) == 2
    assert {*failed["sample_ids"]} <= {fact.sample_id for fact in tiny_data.facts}


def test_samples_of_every_pass_of_the_diverged_step_are_named(tiny_model, tiny_data, cpu, output_in, tmp_path):
    model = tiny_model()
    passes = []

    def break_the_fourth():
        passes.append(len(passes))
        if len(passes) == 4:
            with torch.no_grad():
                model.projector.weight.fill_(float("inf"))

    model.on_step = break_the_fourth
    data = tiny_data.module(accumulate=2)
    with pytest.raises(ConfigError, match=r"step 2 .*diverged\.json names the samples"):
        fit_adapter(model, data, optimisation=optimisation(3), engine=cpu, output=output_in(tmp_path))
    report = json.loads((tmp_path / "diverged.json").read_text())
    assert [one["micro_batch"] for one in report["passes"]] == [2, 3]
