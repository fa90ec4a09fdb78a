"""What a block keeps and what a step computes, against counts of the real thing."""

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from velm_train.models.decoder_shape import DecoderShape, shape_of
from velm_train.models.lora import LoraSettings, attach_lora
from velm_train.models.quantisation import Quantisation

BLOCKS, WIDTH, INNER, HEADS, KV_HEADS, HEAD_WIDTH, RANK = 3, 128, 320, 4, 2, 32, 4


def decoder(quantisation: Quantisation = "none", *, dtype: torch.dtype = torch.float32):
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=BLOCKS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        head_dim=HEAD_WIDTH,
    )
    torch.manual_seed(0)
    settings = LoraSettings(r=RANK, quantisation=quantisation)
    tuned = attach_lora(LlamaForCausalLM(config).to(dtype), settings, base_name="tiny", seed=0)
    return tuned.train().get_base_model().model


@pytest.mark.parametrize("quantisation", ["none", "int8"])
def test_sizes_are_counted_by_hand(quantisation) -> None:
    keys = KV_HEADS * HEAD_WIDTH
    of_block = WIDTH * (HEADS * HEAD_WIDTH) * 2 + WIDTH * keys * 2 + 3 * WIDTH * INNER
    lora = RANK * (2 * (WIDTH + 128) + 2 * (WIDTH + keys) + 3 * (WIDTH + INNER))
    assert shape_of(decoder(quantisation)) == DecoderShape(
        num_blocks=BLOCKS,
        width=WIDTH,
        inner_width=INNER,
        attention_width=128,
        vocabulary=50,
        num_weights=BLOCKS * of_block,
        num_lora=BLOCKS * lora,
        adapted_width=5 * WIDTH + 128 + INNER,
    )


@pytest.mark.parametrize("length", [48, 96])
@pytest.mark.parametrize(
    ("dtype", "mixed", "value_bytes", "cast_bytes"),
    [(torch.float32, False, 4, 0), (torch.float32, True, 2, 2), (torch.bfloat16, False, 2, 4)],
)
def test_what_blocks_keep_is_what_autograd_saves(length, dtype, mixed, value_bytes, cast_bytes) -> None:
    model = decoder(dtype=dtype)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if length in tensor.shape or 2 * length in tensor.shape:  # no weight, nor its copy in another type
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    embeds = torch.randn(2, length, WIDTH, dtype=dtype, requires_grad=True)
    with saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        output = model(inputs_embeds=embeds, use_cache=False)
    of_token = shape_of(model).kept_bytes_per_token(value_bytes=value_bytes, cast_bytes=cast_bytes)
    assert output.last_hidden_state.requires_grad
    assert sum(kept.values()) == pytest.approx(2 * length * BLOCKS * of_token, rel=0.07)


def test_operations_are_those_that_a_counter_sees() -> None:
    model, length = decoder(), 16
    embeds = torch.randn(2, length, WIDTH, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        model(inputs_embeds=embeds, use_cache=False).last_hidden_state.square().sum().backward()
    shape = shape_of(model)
    # The counter takes attention for the full square of pairs, and counts what its backward pass computes again.
    expected = shape.training_operations(tokens=2 * length, squared_lengths=2 * length**2, supervised=0)
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.05)


def test_operations_by_hand() -> None:
    shape = DecoderShape(
        num_blocks=2,
        width=8,
        inner_width=16,
        attention_width=8,
        vocabulary=32,
        num_weights=1000,
        num_lora=100,
        adapted_width=0,
    )
    # 4 * 1000 + 6 * 100 a token; 6 * 2 * 8 a pair; 4 * 32 * 8 a supervised token.
    assert shape.training_operations(tokens=80, squared_lengths=1800, supervised=10) == 368_000 + 172_800 + 10_240
