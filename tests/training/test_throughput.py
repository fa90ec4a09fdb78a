"""Figures of a step, computed by hand from an injected clock."""

import csv
from dataclasses import fields, replace

import pytest
import pytorch_lightning as pl
import torch

from velm_train.models.decoder_shape import DecoderShape
from velm_train.training.batches import WindowedBatch
from velm_train.training.callbacks import LossHistory
from velm_train.training.fit import fit_adapter
from velm_train.training.optimiser import Optimisation
from velm_train.training.samplers import MicroBatchPlan
from velm_train.training.summary import summarise, summary_line
from velm_train.training.throughput import PHASES, BookkeepingEnd, PeakSpeed, ThroughputMonitor, describe_speed

SHAPE = DecoderShape(
    num_blocks=2,
    width=8,
    inner_width=16,
    attention_width=8,
    vocabulary=32,
    num_weights=1000,
    num_lora=100,
    adapted_width=0,
)
FIRST = {
    "index": 0,
    "samples": (4, 2),
    "num_useful_tokens": 30,
    "num_padded_tokens": 40,
    "squared_lengths": 500,
    "num_supervised": 4,
}
SECOND = {
    "index": 1,
    "samples": (1, 3, 5),
    "num_useful_tokens": 50,
    "num_padded_tokens": 60,
    "squared_lengths": 1300,
    "num_supervised": 6,
}


def pass_of(values, batch):
    plain = {field.name: 1 if field.type is int else () for field in fields(MicroBatchPlan)}
    return WindowedBatch(batch=batch, plan=MicroBatchPlan(**{**plain, **values}))


def play(monitor, batch, windows):
    """Calls the hooks of training in their order, one clock reading each."""
    trainer = pl.Trainer(accumulate_grad_batches=2, logger=False, enable_checkpointing=False, barebones=False)
    module, loss = pl.LightningModule(), torch.tensor(0.0)
    last = BookkeepingEnd(monitor)
    monitor.on_train_start(trainer, module)
    for values in windows:
        windowed = pass_of(values, batch)
        monitor.on_train_batch_start(trainer, module, windowed, 0)
        monitor.on_before_backward(trainer, module, loss)
        monitor.on_after_backward(trainer, module)
        monitor.on_train_batch_end(trainer, module, {}, windowed, 0)
        last.on_train_batch_end(trainer, module, {}, windowed, 0)


def monitor_at(readings, *, tflops=None):
    clock = iter(readings)
    peak = None if tflops is None else PeakSpeed(tflops=tflops, shape=SHAPE)
    return ThroughputMonitor(peak=peak, clock=lambda: next(clock))


# start | data, forward, backward, optimiser, bookkeeping | the same again
READINGS = [100, 101, 104, 109, 109.5, 110, 112, 113, 115, 116, 119]


def test_figures_of_a_step_of_two_passes(tiny_data):
    monitor = monitor_at(READINGS)
    play(monitor, tiny_data.collate([0]), [FIRST, SECOND])
    figures = dict(monitor.latest)
    assert figures.pop("peak_memory_bytes") > 1e6
    assert figures == pytest.approx(
        {
            "step_seconds": 16.0,
            "data_seconds": 1.0 + 2.0,
            "forward_seconds": 3.0 + 1.0,
            "backward_seconds": 5.0 + 2.0,
            "optimiser_seconds": 0.5 + 1.0,
            "useful_tokens": 80.0,
            "supervised_tokens": 10.0,
            "samples": 5.0,
            "useful_tokens_per_second": 5.0,
            "supervised_tokens_per_second": 0.625,
            "samples_per_second": 0.3125,
            "padding_fraction": 0.2,
            "data_wait_fraction": 0.1875,
        }
    )


def test_bookkeeping_of_a_step_counts_for_the_next_and_is_no_waiting(tiny_data):
    monitor = monitor_at([*READINGS, 120, 121, 122, 123, 124, 125, 126, 127, 128, 129])
    play(monitor, tiny_data.collate([0]), [FIRST, SECOND, {**FIRST, "index": 2}, {**SECOND, "index": 3}])
    assert monitor.latest["step_seconds"] == 128 - 116
    assert monitor.latest["data_seconds"] == 1.0 + 1.0
    assert monitor.latest["useful_tokens"] == 80.0


def test_utilisation_is_the_4n_rule_against_the_stated_peak(tiny_data):
    monitor = monitor_at(READINGS, tflops=1e-7)  # 100,000 operations a second
    play(monitor, tiny_data.collate([0]), [FIRST, SECOND])
    operations = 80 * (4 * 1000 + 6 * 100) + 6 * 2 * 8 * (500 + 1300) + 4 * 32 * 8 * 10
    assert monitor.latest["mfu"] == pytest.approx(operations / (16 * 1e5))


def test_without_a_peak_there_is_no_utilisation(tiny_data):
    monitor = monitor_at(READINGS)
    play(monitor, tiny_data.collate([0]), [FIRST, SECOND])
    assert "mfu" not in monitor.latest
    assert "MFU" not in describe_speed(monitor.latest)


def test_figures_in_words():
    figures = {
        "samples_per_second": 12.3456,
        "useful_tokens_per_second": 4321.0,
        "padding_fraction": 0.08,
        "data_wait_fraction": 0.02,
        "mfu": 0.512,
    }
    assert (
        describe_speed(figures) == "12.3 samples/s, 4,321 useful tokens/s, 8% padding, 2% waiting for data, 51.2% MFU"
    )


def row(**changes):
    plain = {
        "step_seconds": 2.0,
        "useful_tokens": 100.0,
        "supervised_tokens": 4.0,
        "samples": 8.0,
        "padding_fraction": 0.1,
        "data_seconds": 0.5,
        "peak_memory_bytes": 2e9,
        "loss/total": 1.5,
    }
    return {**plain, **changes}


def test_summary_weighs_steps_by_their_time(tmp_path):
    rows = [row(mfu=0.5), row(step_seconds=6.0, padding_fraction=0.3, mfu=0.1, peak_memory_bytes=3.414e9)]
    summary = summarise(rows, first_step=1, history_path=tmp_path / "history.csv")
    assert (summary.num_steps, summary.first_step, summary.seconds) == (2, 1, 8.0)
    assert summary.useful_tokens_per_second == 25.0
    assert summary.supervised_tokens_per_second == 1.0
    assert summary.samples_per_second == 2.0
    assert summary.padding_fraction == pytest.approx(0.2)
    assert summary.data_wait_fraction == 0.125
    assert summary.mfu == pytest.approx((0.5 * 2 + 0.1 * 6) / 8)
    assert summary.peak_memory_bytes == 3_414_000_000
    assert summary_line(summary) == (
        "2 steps in 8.0 s, 2 samples/s, 25 useful tokens/s (all that are not padding), 1 supervised tokens/s, "
        "20.0% padding, 12.5% waiting for data, 20.0% of the stated peak (MFU, 4N rule), peak memory 3.41 GB"
    )


def test_summary_has_no_utilisation_unless_every_step_has_one(tmp_path):
    summary = summarise([row(), row(mfu=0.5)], first_step=0, history_path=tmp_path / "history.csv")
    assert summary.mfu is None
    assert "MFU" not in summary_line(summary)


def test_a_history_that_went_on_with_a_peak_has_one_column_for_it(tmp_path):
    history = LossHistory(tmp_path, throughput=ThroughputMonitor(), log_every=1)
    history.load_state_dict({"rows": [{"step": 1.0, "loss/total": 0.5}]})
    history.rows.append({"step": 2.0, "loss/total": 0.25, "mfu": 0.4})
    history.write()
    assert (tmp_path / "history.csv").read_text() == "step,loss/total,mfu\n1,0.5,\n2,0.25,0.4\n"


def test_the_speed_stands_beside_the_bar(tiny_model, tiny_data, cpu, output_in, tmp_path):
    shown = []
    output = output_in(tmp_path)
    output.progress.status = shown.append
    rates = {"lora": 1e-2, "projector": 1e-2, "look_twice": 1e-2}
    summary = fit_adapter(
        tiny_model(),
        tiny_data.module(batch_size=3, accumulate=2),
        optimisation=Optimisation(max_steps=2, learning_rates=rates),
        engine=replace(cpu, peak_tflops=1.0),
        output=output,
    )
    assert len(shown) == 2
    assert "samples/s" in shown[0]
    assert "MFU" in shown[0]
    rows = list(csv.DictReader(summary.history_path.open()))
    assert [float(row["samples"]) for row in rows] == [6.0, 6.0]
    # Two windows are one epoch: the answers of twelve samples have 1, 2, 3, 1, ... tokens.
    assert sum(float(row["supervised_tokens"]) for row in rows) == 24
    for row in rows:
        phases = sum(float(row[f"{phase}_seconds"]) for phase in PHASES)
        assert 0 < phases <= float(row["step_seconds"])
    assert summary.mfu > 0
    assert summary.peak_memory_bytes > 1e6
