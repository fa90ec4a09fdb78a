"""Memory of each strategy, by hand; the fastest that fits is taken."""

import pytest

from velm_train.models.decoder_shape import DecoderShape
from velm_train.training.memory import BatchSize, MemoryModel, estimate_memory
from velm_train.training.strategy_memory import BY_SPEED, device_memory, fastest_that_fits

SHAPE = DecoderShape(
    num_blocks=10,
    width=8,
    inner_width=16,
    attention_width=8,
    vocabulary=50,
    num_weights=1000,
    num_lora=100,
    adapted_width=8,
)
MODEL = MemoryModel(
    shape=SHAPE,
    stored_bytes=10_000,
    decoder_bytes=8_000,
    copied_bytes=0,
    num_learning=100,
    gradient_bytes=400,
    state_bytes=8,
    value_bytes=2,
    cast_bytes=2,
    residual_bytes=2,
)
BATCH = BatchSize(samples=1, tokens=5, supervised=2, input_bytes=30)
PASS = estimate_memory(MODEL, BATCH, every=0)


@pytest.mark.parametrize(
    ("strategy", "weights", "learning"),
    [
        ("single", 10_000, 400 + 800),
        ("ddp", 10_000, 400 + 800 + 400),
        ("deepspeed_2", 10_000, (400 + 800 + 400) / 4 + 2 * 400),
        ("deepspeed_2_offload", 10_000, 2 * 400),
        ("fsdp2", 10_000 - 8_500 + 8_500 / 4 + 2 * 850, (400 + 800) / 4),
        ("deepspeed_3", 10_000 / 4 + 2 * 850, (400 + 800 + 400) / 4 + 2 * 400),
        ("deepspeed_3_offload", 2 * 850, 2 * 400),
    ],
)
def test_by_hand_on_four_devices(strategy, weights, learning) -> None:
    got = device_memory(strategy, MODEL, BATCH, block=850, num_devices=4, every=0)
    assert (got.weights, got.learning) == (weights, learning)
    assert got.passing == PASS.activations + PASS.logits + PASS.way_back + PASS.inputs
    assert got.total == got.weights + got.learning + got.passing


def test_the_fastest_that_fits_is_taken() -> None:
    rows = [device_memory(name, MODEL, BATCH, block=850, num_devices=4, every=0) for name in BY_SPEED]
    totals = {row.strategy: row.total for row in rows}
    assert fastest_that_fits(rows, room=10 * totals["ddp"]) == "single"
    assert fastest_that_fits(rows[1:], room=10 * totals["ddp"]) == "ddp"
    assert fastest_that_fits(rows[1:], room=round(totals["fsdp2"] / 0.89)) == "fsdp2"
    assert fastest_that_fits(rows, room=100) is None
