"""Predicted memory by hand, and what is said when there is not enough of it."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from velm_train.core.errors import ResourceError
from velm_train.models.decoder_shape import DecoderShape
from velm_train.training.fit import fit_adapter
from velm_train.training.memory import (
    BatchSize,
    MemoryModel,
    estimate_memory,
    memory_model,
    memory_words,
    quantised,
    tensor_bytes,
)
from velm_train.training.optimiser import Optimisation
from velm_train.training.preflight import MemorySettings
from velm_train.training.rehearsal import ran_out_of_memory

SHAPE = DecoderShape(
    num_blocks=4,
    width=10,
    inner_width=30,
    attention_width=20,
    vocabulary=100,
    num_weights=6400,
    num_lora=50,
    adapted_width=70,
)
MODEL = MemoryModel(
    shape=SHAPE,
    stored_bytes=50_000,
    decoder_bytes=25_600,
    copied_bytes=12_800,
    num_learning=70,
    gradient_bytes=280,
    state_bytes=8,
    value_bytes=2,
    cast_bytes=4,
    residual_bytes=4,
)
BATCH = BatchSize(samples=3, tokens=300, supervised=9, input_bytes=1000)
OF_BLOCK = 2 * 10 * 4 + (4 * 20 + 3 * 30) * 2 + 70 * 4  # float32 residuals and inputs of LoRA, the rest in two bytes


PASSING = 30 * (2 * 2 + 4) + 10 * 4  # gradients of two factors in two bytes, LoRA's and the residual's in float32


@pytest.mark.parametrize(
    ("every", "at_the_loss", "at_the_last_again"),
    [
        (0, 4 * OF_BLOCK, 0),
        (2, 2 * OF_BLOCK + 2 * 40, 0),  # kept: second, fourth; again: first, third, when the fourth is gone
        (3, 2 * OF_BLOCK + 2 * 40, OF_BLOCK),  # kept: second, third; again: first, fourth
        (1, 4 * 40, OF_BLOCK),
    ],
)
def test_estimate_by_hand(every, at_the_loss, at_the_last_again):
    estimate = estimate_memory(MODEL, BATCH, every=every)
    logits = 3 * 4 * 9 * 100
    assert estimate.activations == 300 * at_the_loss
    assert (estimate.weights, estimate.copies, estimate.gradients) == (50_000, 12_800, 280)
    assert (estimate.optimiser, estimate.logits, estimate.inputs) == (560, logits, 1000)
    assert estimate.way_back == 300 * (at_the_last_again + PASSING) - logits
    assert estimate.passing == 12_800 + 280 + 300 * (at_the_loss + at_the_last_again + PASSING)
    assert estimate.total == 50_000 + 560 + 1000 + estimate.passing


def test_logits_that_are_larger_than_the_way_back_hide_it():
    estimate = estimate_memory(MODEL, replace(BATCH, supervised=300), every=0)
    assert (estimate.logits, estimate.way_back) == (3 * 4 * 300 * 100, 0)


def test_quantised_weights_take_half_a_byte_and_their_scales():
    small = quantised(MODEL)
    assert small.stored_bytes == 50_000 - 25_600 + 3200 + 100
    assert small.copied_bytes == 0


def test_half_a_batch_is_a_whole_number_of_samples():
    assert BATCH.halved() == BatchSize(samples=1, tokens=100, supervised=3, input_bytes=333)
    assert BATCH.halved().halved() == BATCH.halved()


@pytest.mark.parametrize(("precision", "value_bytes", "copies"), [("32-true", 4, 0), ("bf16-mixed", 2, 2 * 36)])
def test_sizes_are_read_off_a_model(tiny_model, precision, value_bytes, copies):
    model = tiny_model()
    made = memory_model(model, model.decoder, precision=precision, state_bytes=2)
    learning = 42 + 36 + 6  # lora 6 x 6 + 6, projector 5 x 6 + 6, look_twice 5 + 1
    assert made.num_learning == learning
    assert made.gradient_bytes == 4 * learning
    # Embedding 66, tower 6 + 4, frozen base 42, and the tower's running statistics: 4 floats and a counter of 8 bytes.
    assert made.stored_bytes == 4 * (learning + 66 + 10 + 42 + 4) + 8
    assert made.cast_bytes == (0 if precision == "32-true" else 2)
    assert (made.value_bytes, made.state_bytes, made.residual_bytes) == (value_bytes, 2, 4)
    assert made.copied_bytes >= copies


def test_bytes_of_a_batch_are_those_of_all_its_tensors(tiny_data):
    batch = tiny_data.collate([0, 3])  # 4 and 7 tokens, 2 views of 6 tokens
    evidence = 4 * (2 * 6 * 5 + 2 * 6 * 3 + 2 * 6) + 8 * (2 * 2 + 2) + 2 + 2 * 6
    assert tensor_bytes(batch) == 3 * 8 * 2 * 7 + evidence + 8 * 2 + 4 * 2


@pytest.mark.parametrize(
    ("num_bytes", "words"), [(3.414e9, "3.41 GB"), (1e9, "1.00 GB"), (999e6, "999 MB"), (1.25e6, "1.2 MB")]
)
def test_sizes_in_words(num_bytes, words):
    assert memory_words(num_bytes) == words


def allocate_too_much():
    torch.empty(2**60, dtype=torch.uint8)


def run_out_on_a_gpu():
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def tune(model, data, engine, output):
    rates = {"lora": 1e-2, "projector": 1e-2, "look_twice": 1e-2}
    return fit_adapter(
        model, data, optimisation=Optimisation(max_steps=4, learning_rates=rates), engine=engine, output=output
    )


@pytest.mark.parametrize("run_out", [allocate_too_much, run_out_on_a_gpu])
def test_running_out_while_training_names_the_batch_and_the_knobs(
    tiny_model, tiny_data, cpu, output_in, tmp_path, run_out
):
    model = tiny_model()
    passes = []

    def in_the_third():
        passes.append(1)
        if len(passes) == 3:
            run_out()

    model.on_step = in_the_third
    with pytest.raises(ResourceError) as caught:
        tune(model, tiny_data.module(batch_size=4), cpu, output_in(tmp_path))
    line = str(caught.value)
    assert line.startswith("out of memory at micro-batch 2 of 4 samples and ")
    assert line.count("sample ") == 3
    assert " and 1 more)" in line
    for knob in ("trainer.batch_size=2 about", "trainer.token_budget=", "trainer.checkpointing=full about"):
        assert knob in line
    assert "\n" not in line


def test_other_errors_are_left_alone(tiny_model, tiny_data, cpu, output_in, tmp_path):
    model = tiny_model()

    def fail():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    model.on_step = fail
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        tune(model, tiny_data.module(), cpu, output_in(tmp_path))


def test_the_real_allocators_error_is_known():
    with pytest.raises(RuntimeError) as caught:
        allocate_too_much()
    assert ran_out_of_memory(caught.value)
    assert ran_out_of_memory(MemoryError())
    assert not ran_out_of_memory(ValueError("out of memory"))


def add_statistics(model):
    """Gives a model a part in train mode whose buffers follow the data."""
    model.statistics = nn.BatchNorm1d(5, affine=False)

    def follow(module, inputs):
        model.statistics(inputs[0].flatten(0, 1))

    model.projector.register_forward_pre_hook(follow)


def test_the_largest_batch_is_tried_and_frozen_statistics_and_gradients_stay(
    tiny_model, tiny_data, cpu, output_in, tmp_path
):
    plain, tried = tiny_model(), tiny_model()
    seen = []
    compute = tried.training_output

    def remember(batch):
        seen.append(tuple(batch.input_ids.shape))
        if len(seen) < 3:  # the pre-flight, and the first step after it
            assert all(parameter.grad is None for parameter in tried.parameters())
        return compute(batch)

    tried.training_output = remember
    for model in (plain, tried):
        add_statistics(model)
    first = tune(plain, tiny_data.module(batch_size=3), cpu, output_in(tmp_path / "plain"))
    engine = replace(cpu, memory=MemorySettings(preflight="on"))
    second = tune(tried, tiny_data.module(batch_size=3), engine, output_in(tmp_path / "tried"))
    assert seen[0] == max(seen[1:], key=lambda shape: shape[0] * shape[1])
    assert len(seen) == 1 + 4
    assert first.losses == second.losses
    for (name, value), other in zip(plain.state_dict().items(), tried.state_dict().values(), strict=True):
        assert torch.equal(value, other), name


def test_auto_tries_nothing_on_the_cpu(tiny_model, tiny_data, cpu, output_in, tmp_path):
    model = tiny_model()
    passes = []
    model.on_step = lambda: passes.append(1)
    engine = replace(cpu, memory=MemorySettings(checkpointing="auto", preflight="auto"))
    tune(model, tiny_data.module(), engine, output_in(tmp_path))
    assert len(passes) == 4
