"""Samples that the model is unsure of come more often, by what it says of training samples alone, and resumably."""

import math
import signal
from collections import Counter

import numpy as np
import pytest
import torch

from velm_train.training import confidence as confidence_module
from velm_train.training.datamodule import SampleDataModule
from velm_train.training.fit import fit_adapter
from velm_train.training.hard_examples import HardExamples
from velm_train.training.optimiser import Optimisation

NUM_SAMPLES = 12
SURE = np.array([0.9] * 8 + [0.1] * 4)
RATES = {"lora": 1e-2, "projector": 2e-3, "look_twice": 5e-3}


def measured(share: float = 0.5, confidence: np.ndarray = SURE, epoch: int = 1) -> HardExamples:
    hard = HardExamples(share=share)
    hard.remember([epoch], confidence)
    return hard


def test_epoch_that_nothing_was_measured_for_shows_every_sample_once():
    order = measured().order(NUM_SAMPLES, seed=0, epoch=0)
    assert sorted(order) == list(range(NUM_SAMPLES))


def test_visits_are_those_expected_up_to_one():
    """Hardness is 0.1 eight times and 0.9 four times, 4.4 in all: 12 / 4.4 visits for each unit of it."""
    expected = 0.5 + 0.5 * (1 - SURE) * 12 / 4.4
    assert expected[0] == pytest.approx(0.636, abs=1e-3)
    assert expected[11] == pytest.approx(1.727, abs=1e-3)
    for seed in range(30):
        order = measured().order(NUM_SAMPLES, seed=seed, epoch=1)
        assert len(order) == NUM_SAMPLES
        visits = np.bincount(order, minlength=NUM_SAMPLES)
        assert np.all(np.abs(visits - expected) < 1)


def test_visits_are_expected_on_average():
    visits = Counter(int(i) for seed in range(400) for i in measured().order(NUM_SAMPLES, seed=seed, epoch=1))
    assert sum(visits[i] for i in range(8)) / 400 == pytest.approx(8 * 0.636, abs=0.15)
    assert sum(visits[i] for i in range(8, 12)) / 400 == pytest.approx(4 * 1.727, abs=0.15)


def test_share_of_none_is_every_sample_once_and_share_of_all_leaves_sure_samples_out():
    assert sorted(measured(0.0).order(NUM_SAMPLES, seed=0, epoch=1)) == list(range(NUM_SAMPLES))
    certain = np.array([1.0] * 10 + [0.5] * 2)
    assert set(measured(1.0, certain).order(NUM_SAMPLES, seed=0, epoch=1).tolist()) == {10, 11}


def test_model_that_is_sure_of_everything_sees_everything_once():
    order = measured(1.0, np.ones(NUM_SAMPLES)).order(NUM_SAMPLES, seed=0, epoch=1)
    assert sorted(order) == list(range(NUM_SAMPLES))


def test_order_depends_on_seed_and_epoch_and_what_was_measured_alone():
    hard = HardExamples(share=0.5)
    hard.remember([1, 2], SURE)
    first = hard.order(NUM_SAMPLES, seed=0, epoch=1)
    assert np.array_equal(first, measured().order(NUM_SAMPLES, seed=0, epoch=1))
    for other in (hard.order(NUM_SAMPLES, seed=1, epoch=1), hard.order(NUM_SAMPLES, seed=0, epoch=2)):
        assert not np.array_equal(first, other)


def test_state_gives_the_same_orders():
    again = HardExamples(share=0.5)
    again.load_state(measured().state())
    assert np.array_equal(again.order(NUM_SAMPLES, seed=3, epoch=1), measured().order(NUM_SAMPLES, seed=3, epoch=1))


class Watch:
    """Notes every measurement with the step after which it was made."""

    def __init__(self, monkeypatch) -> None:
        self.made: list[tuple[int, list[int], np.ndarray]] = []
        plain = HardExamples.remember

        def remember(hard, epochs, confidence):
            self.made.append((self.step(), list(epochs), confidence))
            plain(hard, epochs, confidence)

        plain_end = confidence_module.MeasureConfidence.on_train_batch_end

        def on_end(callback, trainer, *arguments):
            self.step = lambda: trainer.global_step
            plain_end(callback, trainer, *arguments)

        monkeypatch.setattr(HardExamples, "remember", remember)
        monkeypatch.setattr(confidence_module.MeasureConfidence, "on_train_batch_end", on_end)


def fit(model, module: SampleDataModule, *, cpu, output, max_steps: int = 20):
    optimisation = Optimisation(max_steps=max_steps, learning_rates=RATES, weight_decay=0.01, warmup_fraction=0.2)
    return fit_adapter(model, module, optimisation=optimisation, engine=cpu, output=output)


def test_every_epoch_but_the_first_is_measured_one_step_before_it_is_fetched(
    tiny_model, tiny_data, cpu, output_in, tmp_path, monkeypatch
):
    """Twelve samples by two are six steps an epoch; the second begins in step 6, whose batch step 5 fetches."""
    watch = Watch(monkeypatch)
    fit(tiny_model(), tiny_data.module(balance="hard"), cpu=cpu, output=output_in(tmp_path))
    assert [(step, epochs) for step, epochs, _ in watch.made] == [(5, [1]), (11, [2]), (17, [3])]


def test_confidence_is_the_probability_of_the_right_answer_per_token_without_dropout(
    tiny_model, tiny_data, cpu, output_in, tmp_path, monkeypatch
):
    watch = Watch(monkeypatch)
    model = tiny_model()
    # Nothing learns before the first measurement is taken apart: a rate of nearly nothing.
    still = Optimisation(max_steps=7, learning_rates=dict.fromkeys(RATES, 1e-12))
    module = tiny_data.module(balance="hard")
    fit_adapter(model, module, optimisation=still, engine=cpu, output=output_in(tmp_path))
    ((_, _, found),) = watch.made
    model.eval()
    for index, answer in enumerate(tiny_data.answers):
        batch = tiny_data.collate([index])
        views = model.projector(batch.evidence.final).mean(dim=1)
        hidden = model.embedding(batch.input_ids) + views[:, None]
        hidden = model.block["base"](hidden) + model.block["lora"](hidden)
        log_p = torch.log_softmax(hidden[0] @ model.embedding.weight.T, dim=-1).detach()
        ids = batch.input_ids[0]
        total = sum(float(log_p[place - 1, ids[place]]) for place in range(len(ids) - answer, len(ids)))
        assert found[index] == pytest.approx(math.exp(total / answer), rel=1e-5)


def test_samples_the_model_is_unsure_of_come_more_often(tiny_model, tiny_data, cpu, output_in, tmp_path, monkeypatch):
    watch = Watch(monkeypatch)
    module = tiny_data.module(balance="hard")
    seen: list[int] = []
    model = tiny_model()
    plain = tiny_data.collate

    def collate(indices, visits=None):
        seen.extend(indices if visits is not None else [])
        return plain(indices, visits)

    module._collate = collate
    fit(model, module, cpu=cpu, output=output_in(tmp_path), max_steps=12)
    (_, _, found), *_ = watch.made
    assert sorted(seen[:12]) == list(range(12))
    times = Counter(seen[12:24])
    expected = 0.5 + 0.5 * (1 - found) / (1 - found).mean()
    assert all(abs(times[i] - expected[i]) < 1 for i in range(12))


@pytest.mark.parametrize(("accumulate", "stop"), [(1, 5), (1, 8), (2, 3)])
def test_resumed_run_equals_the_uninterrupted_one_bitwise(
    tiny_model, tiny_data, cpu, output_in, tmp_path, accumulate, stop
):
    def module():
        return tiny_data.module(balance="hard", accumulate=accumulate)

    whole, parts, fresh = tiny_model(), tiny_model(), tiny_model()
    first = fit(whole, module(), cpu=cpu, output=output_in(tmp_path / "a"))
    calls = []

    def stop_in_that_step():
        calls.append(parts.training)
        if sum(calls) == stop * accumulate and parts.training:
            signal.raise_signal(signal.SIGINT)

    parts.on_step = stop_in_that_step
    with pytest.raises(KeyboardInterrupt):
        fit(parts, module(), cpu=cpu, output=output_in(tmp_path / "b"))
    second = fit(fresh, module(), cpu=cpu, output=output_in(tmp_path / "b"))
    assert second.first_step == stop
    assert first.losses == second.losses
    for name, value in whole.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[name]), name


def test_measuring_changes_nothing_but_the_order(tiny_model, tiny_data, cpu, output_in, tmp_path):
    """A share of nothing visits every sample once an epoch; modes, gradients and dropout are as without measuring."""
    model = tiny_model()
    module = tiny_data.module(balance="hard")
    module.hard.share = 0.0
    summary = fit(model, module, cpu=cpu, output=output_in(tmp_path))
    assert summary.num_steps == 20
    assert model.block["dropout"].p == 0.3
    assert all(parameter.grad is None for parameter in model.block["base"].parameters())


def test_no_other_balance_measures(tiny_data):
    for balance in ("none", "type", "category", "gate"):
        assert tiny_data.module(balance=balance).hard is None


def test_token_budget_cuts_the_same_windows_with_measured_orders(tiny_model, tiny_data, cpu, output_in, tmp_path):
    """Where windows end depends on the order of later samples; a resumed run must know them all."""
    losses = []
    for stop in (None, 7):
        model = tiny_model()
        folder = tmp_path / str(stop)

        def module():
            return SampleDataModule(
                tiny_data.facts,
                collate=tiny_data.collate,
                batch_size=4,
                balance="hard",
                token_budget=20,
                seed=0,
            )

        calls = []

        def stop_there(model=model, calls=calls, stop=stop):
            calls.append(model.training)
            if model.training and sum(calls) == stop:
                signal.raise_signal(signal.SIGINT)

        model.on_step = stop_there
        if stop is not None:
            with pytest.raises(KeyboardInterrupt):
                fit(model, module(), cpu=cpu, output=output_in(folder))
            model = tiny_model()
        losses.append(fit(model, module(), cpu=cpu, output=output_in(folder)).losses)
    assert losses[0] == losses[1]
