"""The loop: equal losses however the window is cut, exact resume, checkpoints, interruption."""

import csv
import gc
import os
import signal
import warnings
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from velm_train.core.errors import ArtifactError
from velm_train.core.interrupts import PREEMPTION_SIGNALS, STOP_SIGNALS
from velm_train.core.scrubbing import make_scrubber
from velm_train.training.fit import fit_adapter
from velm_train.training.loggers import LoggerChoice, WandbRunFacts, finish_loggers, make_loggers
from velm_train.training.optimiser import Optimisation

RATES = {"lora": 1e-2, "projector": 2e-3, "look_twice": 5e-3}


def optimisation(max_steps, **changes):
    return replace(
        Optimisation(max_steps=max_steps, learning_rates=RATES, weight_decay=0.01, warmup_fraction=0.2), **changes
    )


def weights_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_equal_weights(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.mark.parametrize(("batch_size", "accumulate"), [(3, 2), (2, 3), (1, 6)])
def test_accumulated_micro_batches_equal_one_big_batch(
    tiny_model, tiny_data, cpu, output_in, tmp_path, batch_size, accumulate
):
    results = []
    for name, size, count in (("big", 6, 1), ("cut", batch_size, accumulate)):
        model = tiny_model()
        model.block["dropout"].p = 0.0
        summary = fit_adapter(
            model,
            tiny_data.module(batch_size=size, accumulate=count),
            optimisation=optimisation(4),
            engine=cpu,
            output=output_in(tmp_path / name),
            bce_weight=0.5,
            pos_weight=2.0,
        )
        results.append((summary.losses, weights_of(model)))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-6)
    for name, value in results[0][1].items():
        assert torch.allclose(value, results[1][1][name], atol=1e-6), name


def test_loss_is_token_sum_over_token_count_plus_weighted_image_loss(tiny_model, tiny_data, cpu, output_in, tmp_path):
    model = tiny_model()
    model.block["dropout"].p = 0.0
    batch = tiny_data.collate(range(12))
    output = model.training_output(batch)
    p = torch.sigmoid(output.image_logits.detach()).double()
    expected_image = [
        -2.0 * float(torch.log(p[i])) if label == 1 else -float(torch.log(1 - p[i]))
        for i, label in enumerate(tiny_data.anomalous)
        if label in (0.0, 1.0)
    ]
    expected = output.language_loss_sum.item() / sum(tiny_data.answers) + 0.5 * sum(expected_image) / 8
    summary = fit_adapter(
        model,
        tiny_data.module(batch_size=4, accumulate=3),
        optimisation=optimisation(1),
        engine=cpu,
        output=output_in(tmp_path),
        bce_weight=0.5,
        pos_weight=2.0,
    )
    assert summary.losses[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_five_plus_five_steps_equal_ten_bitwise(tiny_model, tiny_data, cpu, output_in, tmp_path, accumulate):
    whole, parts = tiny_model(), tiny_model()
    settings = optimisation(10)
    first = fit_adapter(
        whole,
        tiny_data.module(accumulate=accumulate),
        optimisation=settings,
        engine=cpu,
        output=output_in(tmp_path / "a"),
    )
    calls = []

    def stop_in_step_five():
        calls.append(1)
        if len(calls) == 5 * accumulate:
            signal.raise_signal(signal.SIGINT)

    parts.on_step = stop_in_step_five
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit_adapter(
            parts,
            tiny_data.module(accumulate=accumulate),
            optimisation=settings,
            engine=cpu,
            output=output_in(tmp_path / "b"),
        )
    assert signal.getsignal(signal.SIGINT) is before
    assert len(calls) == 5 * accumulate
    fresh = tiny_model()  # nothing but the checkpoint may carry over
    second = fit_adapter(
        fresh,
        tiny_data.module(accumulate=accumulate),
        optimisation=settings,
        engine=cpu,
        output=output_in(tmp_path / "b"),
    )
    assert (first.first_step, second.first_step) == (0, 5)
    assert second.num_steps == 10
    assert first.losses == second.losses
    assert_equal_weights(weights_of(whole), weights_of(fresh))


def test_stop_signals_and_the_memory_are_given_back(tiny_model, tiny_data, cpu, output_in, tmp_path):
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    model = tiny_model()
    left = weakref.ref(model)
    fit_adapter(model, tiny_data.module(), optimisation=optimisation(2), engine=cpu, output=output_in(tmp_path))
    assert {number: signal.getsignal(number) for number in STOP_SIGNALS} == before
    del model
    gc.collect()
    assert left() is None


def test_second_interrupt_stops_at_once_without_a_checkpoint(tiny_model, tiny_data, cpu, output_in, tmp_path):
    model = tiny_model()

    def interrupt_twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    model.on_step = interrupt_twice
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit_adapter(model, tiny_data.module(), optimisation=optimisation(3), engine=cpu, output=output_in(tmp_path))
    assert signal.getsignal(signal.SIGINT) is before
    assert list((tmp_path / "checkpoints").glob("*.ckpt")) == []


@pytest.mark.parametrize("number", PREEMPTION_SIGNALS, ids=lambda number: number.name)
def test_preemption_signal_saves_and_reaches_the_previous_handler(
    tiny_model, tiny_data, cpu, output_in, tmp_path, number
):
    received = []
    before = signal.signal(number, lambda number, _: received.append(number))
    model = tiny_model()
    model.on_step = lambda: os.kill(os.getpid(), number)
    try:
        with pytest.raises(KeyboardInterrupt):
            fit_adapter(model, tiny_data.module(), optimisation=optimisation(3), engine=cpu, output=output_in(tmp_path))
    finally:
        signal.signal(number, before)
    assert received == [number]
    assert (tmp_path / "checkpoints" / "step_000001.ckpt").is_file()


def test_a_finished_run_is_not_trained_again(tiny_model, tiny_data, cpu, output_in, tmp_path):
    arguments = {"optimisation": optimisation(3), "engine": cpu, "output": output_in(tmp_path)}
    trained, again = tiny_model(), tiny_model()
    first = fit_adapter(trained, tiny_data.module(), **arguments)
    again.on_step = lambda: pytest.fail("a step was made")
    second = fit_adapter(again, tiny_data.module(), **arguments)
    assert second.first_step == 3
    assert first.losses == second.losses
    assert_equal_weights(weights_of(trained), weights_of(again))


def test_checkpoint_holds_trainable_tensors_only(tiny_model, tiny_data, cpu, output_in, tmp_path):
    fit_adapter(tiny_model(), tiny_data.module(), optimisation=optimisation(2), engine=cpu, output=output_in(tmp_path))
    checkpoint = torch.load(tmp_path / "checkpoints" / "step_000002.ckpt", weights_only=True)
    parts = ("block.lora", "projector", "look_twice")
    assert set(checkpoint["state_dict"]) == {f"model.{part}.{kind}" for part in parts for kind in ("weight", "bias")}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "history.csv"]
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step_000002.ckpt", "step_000002.ckpt.json"]


def test_only_groups_with_a_rate_move(tiny_model, tiny_data, cpu, output_in, tmp_path):
    model = tiny_model()
    before = weights_of(model)
    fit_adapter(
        model,
        tiny_data.module(),
        optimisation=optimisation(3, learning_rates={"lora": 1e-2, "projector": 0.0, "look_twice": 1e-3}),
        engine=cpu,
        output=output_in(tmp_path),
        bce_weight=1.0,
    )
    moved = {name for name, value in weights_of(model).items() if not torch.equal(value, before[name])}
    assert moved == {f"{part}.{kind}" for part in ("block.lora", "look_twice") for kind in ("weight", "bias")}
    assert all(parameter.requires_grad for parameter in model.projector.parameters())


def test_dropout_is_on_in_training_and_the_frozen_tower_stays_in_eval(tiny_model, tiny_data, cpu, output_in, tmp_path):
    model = tiny_model()
    modes = []
    model.on_step = lambda: modes.append(
        (model.block.training, model.block["dropout"].training, model.tower[1].training)
    )
    fit_adapter(model, tiny_data.module(), optimisation=optimisation(2), engine=cpu, output=output_in(tmp_path))
    assert modes == [(True, True, False)] * 2
    assert not model.block.training


def test_a_checkpoint_of_other_data_is_refused(tiny_model, tiny_data, cpu, output_in, tmp_path):
    arguments = {"optimisation": optimisation(2), "engine": cpu, "output": output_in(tmp_path)}
    fit_adapter(tiny_model(), tiny_data.module(seed=0), **arguments)
    with pytest.raises(ArtifactError, match="other samples"):
        fit_adapter(tiny_model(), tiny_data.module(seed=1), **arguments)


def test_history_and_throughput_are_kept(tiny_model, tiny_data, cpu, output_in, tmp_path):
    summary = fit_adapter(
        tiny_model(),
        tiny_data.module(batch_size=3, accumulate=2),
        optimisation=optimisation(4),
        engine=cpu,
        output=output_in(tmp_path),
    )
    rows = list(csv.DictReader(summary.history_path.open()))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert [float(row["loss/total"]) for row in rows] == list(summary.losses)
    assert [float(row["samples"]) for row in rows] == [6.0] * 4
    # Two windows are one epoch of twelve samples of 4..9 tokens, each twice: 78 tokens.
    assert float(rows[0]["useful_tokens"]) + float(rows[1]["useful_tokens"]) == 78
    assert 0 <= summary.padding_fraction < 0.5
    assert float(rows[0]["lr/lora"]) == pytest.approx(1e-2)  # warm-up is one step long


def test_training_says_nothing_by_itself(tiny_model, tiny_data, cpu, output_in, tmp_path, capfd, caplog):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_adapter(
            tiny_model(), tiny_data.module(), optimisation=optimisation(2), engine=cpu, output=output_in(tmp_path)
        )
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
    assert [record.message for record in caplog.records if record.name.startswith("pytorch_lightning")] == []


def test_bf16_mixed_takes_the_same_path(tiny_model, tiny_data, cpu, output_in, tmp_path):
    summary = fit_adapter(
        tiny_model(),
        tiny_data.module(),
        optimisation=optimisation(2),
        engine=replace(cpu, precision="bf16-mixed"),
        output=output_in(tmp_path),
    )
    assert np.isfinite(summary.losses).all()


def test_offline_wandb_run_folder_exists_and_csv_holds_every_step(
    tiny_model, tiny_data, cpu, output_in, tmp_path, capfd
):
    loggers = make_loggers(
        LoggerChoice(wandb_mode="offline", tensorboard=True, timeout_s=20.0),
        WandbRunFacts(project="p", name="n", group=None, tags=(), job_type="train", config={"r": 4}, final_step=4),
        folder=tmp_path,
        scrubber=make_scrubber({}),
    )
    try:
        fit_adapter(
            tiny_model(),
            tiny_data.module(),
            optimisation=optimisation(3),
            engine=cpu,
            output=replace(output_in(tmp_path / "tune"), loggers=loggers),
        )
    finally:
        assert finish_loggers(loggers, failed=False, hurried=False) == ()
    run_folders = [path for path in (tmp_path / "wandb").glob("offline-run-*") if path.is_dir()]
    assert len(run_folders) == 1
    assert any(path.suffix == ".wandb" and path.stat().st_size > 0 for path in run_folders[0].iterdir())
    rows = list(csv.DictReader((tmp_path / "csv" / "metrics.csv").open()))
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss/total")] == [1, 2, 3]
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
