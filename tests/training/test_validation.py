"""The loss on held-out samples: token-weighted, at the right steps, and without any effect on training."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from velm_train.models.modes import evaluating
from velm_train.training.divergence import DivergedError
from velm_train.training.fit import fit_adapter
from velm_train.training.optimiser import Optimisation
from velm_train.training.starting import Keeping
from velm_train.training.validation import HeldOut
from velm_train.training.windows import PassLimits

NUM_TRAINED = 8
SETTINGS = Optimisation(max_steps=7, learning_rates={"lora": 1e-2, "projector": 2e-3, "look_twice": 5e-3})


@pytest.fixture
def held_out(tiny_data):
    """Makes what validates: the samples behind the first eight."""

    def make(*, every: int = 3, batch_size: int = 3, token_budget: int = 0) -> HeldOut:
        return HeldOut(
            facts=tiny_data.facts[NUM_TRAINED:],
            collate=lambda indices, visits: tiny_data.collate([NUM_TRAINED + index for index in indices], visits),
            limits=PassLimits(batch_size=batch_size, token_budget=token_budget),
            every=every,
            seed=0,
        )

    return make


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "history.csv").open()))


def validated(folder: Path) -> dict[int, float]:
    return {int(row["step"]): float(row["validation/loss"]) for row in rows(folder) if row["validation/loss"]}


def token_loss(model, data, indices: Sequence[int]) -> float:
    """Written out: one sample at a time, all token losses over all tokens."""
    total, tokens = 0.0, 0
    with evaluating(model), torch.no_grad():
        for index in indices:
            output = model.training_output(data.collate([index]))
            total += float(output.language_loss_sum)
            tokens += output.num_supervised
    return total / tokens


@pytest.mark.parametrize(("batch_size", "token_budget"), [(1, 0), (3, 0), (4, 16)])
def test_the_loss_is_that_of_all_tokens_alike_however_they_are_batched(
    tiny_model, tiny_data, cpu, output_in, tmp_path, held_out, batch_size, token_budget
):
    model = tiny_model()
    validation = held_out(batch_size=batch_size, token_budget=token_budget)
    assert sorted(index for part in validation.passes() for index in part) == [0, 1, 2, 3]
    fit_adapter(
        model,
        tiny_data.module(),
        optimisation=SETTINGS,
        engine=cpu,
        output=output_in(tmp_path),
        held_out=validation,
    )
    assert list(validated(tmp_path)) == [3, 6, 7]
    assert validated(tmp_path)[7] == pytest.approx(token_loss(model, tiny_data, range(NUM_TRAINED, 12)), rel=1e-5)


def test_passes_keep_to_the_token_budget(held_out, tiny_data):
    passes = held_out(batch_size=4, token_budget=16).passes()
    lengths = [[tiny_data.lengths[NUM_TRAINED + index] for index in part] for part in passes]
    assert all(len(part) * max(part) <= 16 for part in lengths)


@pytest.mark.parametrize("balance", ["none", "hard"])
def test_training_is_bitwise_the_same_with_and_without(
    tiny_model, tiny_data, cpu, output_in, tmp_path, held_out, balance
):
    results = []
    for name, validation in (("without", None), ("with", held_out(every=1))):
        model = tiny_model()
        summary = fit_adapter(
            model,
            tiny_data.module(accumulate=2, balance=balance),
            optimisation=SETTINGS,
            engine=cpu,
            output=output_in(tmp_path / name),
            held_out=validation,
        )
        results.append((summary.losses, model.state_dict()))
    assert results[0][0] == results[1][0]
    for name, value in results[0][1].items():
        assert torch.equal(value, results[1][1][name]), name


def test_whoever_asks_is_told_and_the_trainer_knows_the_latest(
    tiny_model, tiny_data, cpu, output_in, tmp_path, held_out, monkeypatch
):
    from velm_train.training import fit  # noqa: PLC0415 - its names are looked at

    told, known = [], []

    class Listening(fit.MeasureValidation):
        def on_train_batch_end(self, trainer, *others):
            super().on_train_batch_end(trainer, *others)
            known.append(float(trainer.callback_metrics["validation/loss"]) if self.values else None)

        def on_fit_start(self, *_):
            self.on_validation.append(lambda step, value: told.append((step, value)))

    monkeypatch.setattr(fit, "MeasureValidation", Listening)
    fit_adapter(
        tiny_model(),
        tiny_data.module(),
        optimisation=SETTINGS,
        engine=cpu,
        output=output_in(tmp_path),
        held_out=held_out(),
    )
    assert told == list(validated(tmp_path).items())
    assert known[:3] == [None, None, pytest.approx(told[0][1])]


def test_the_best_weights_are_used_if_they_are_asked_for(tiny_model, tiny_data, cpu, output_in, tmp_path, held_out):
    def run(folder, **keeping):
        model = tiny_model()
        fit_adapter(
            model,
            tiny_data.module(),
            # A rate at which the tiny model soon gets worse on what it does not see.
            optimisation=replace(SETTINGS, max_steps=12, learning_rates={**SETTINGS.learning_rates, "lora": 0.5}),
            engine=cpu,
            output=replace(output_in(folder), keeping=Keeping(last=1, best=True, **keeping)),
            held_out=held_out(every=2),
        )
        return model

    last = run(tmp_path / "last")
    values = validated(tmp_path / "last")
    best_step = min(values, key=lambda step: values[step])
    assert best_step < 12, "the test needs a run that gets worse"
    names = sorted(path.name for path in (tmp_path / "last" / "checkpoints").glob("*.ckpt"))
    assert names == [f"step_{best_step:06d}.ckpt", "step_000012.ckpt"]
    best = run(tmp_path / "best", use_best=True)
    unseen = range(NUM_TRAINED, 12)
    assert validated(tmp_path / "best") == values
    assert token_loss(last, tiny_data, unseen) == pytest.approx(values[12], rel=1e-5)
    assert token_loss(best, tiny_data, unseen) == pytest.approx(values[best_step], rel=1e-5)
    again = run(tmp_path / "best", use_best=True)  # killed before the weights were written elsewhere
    for name, value in best.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_a_loss_that_is_not_finite_stops_the_run(tiny_model, tiny_data, cpu, output_in, tmp_path, held_out):
    model = tiny_model()
    broken = held_out(every=2)
    inner = broken.collate

    def collate(indices, visits):
        batch = inner(indices, visits)
        return replace(batch, evidence=replace(batch.evidence, final=batch.evidence.final * float("inf")))

    with pytest.raises(DivergedError, match="the validation loss of optimiser step 2 is nan"):
        fit_adapter(
            model,
            tiny_data.module(),
            optimisation=SETTINGS,
            engine=cpu,
            output=output_in(tmp_path),
            held_out=replace(broken, collate=collate),
        )
