"""What a block keeps and what a step computes, against counts of the real thing."""

import weakref
from collections.abc import Iterable

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from velm_train.models.decoder_shape import DecoderShape, shape_of
from velm_train.models.lora import LoraSettings, attach_lora
from velm_train.models.quantisation import Quantisation
from velm_train.models.recompute import recompute_activations
from velm_train.training.memory import BatchSize, MemoryModel, estimate_memory

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


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that are made while it is on, and how many were there at once.

    Weights, of which operations return views, are not made.
    """

    def __init__(self, *, weights: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self._sizes = {weight.untyped_storage()._cdata: 0 for weight in weights}
        self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        del types
        made = func(*args, **(kwargs or {}))
        for tensor in tree_iter(made):
            if isinstance(tensor, torch.Tensor) and (key := tensor.untyped_storage()._cdata) not in self._sizes:
                storage = tensor.untyped_storage()
                self._sizes[key] = storage.nbytes()
                weakref.finalize(storage, self._sizes.pop, key)
        self.peak = max(self.peak, sum(self._sizes.values()))
        return made


@pytest.mark.parametrize("every", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("dtype", "value_bytes", "cast_bytes"), [(torch.float32, 4, 0), (torch.bfloat16, 2, 4)], ids=["float32", "bfloat16"]
)
def test_predicted_memory_of_a_pass_is_what_is_there_at_once(every, dtype, value_bytes, cast_bytes) -> None:
    model, length = decoder(dtype=dtype), 256
    if every:
        recompute_activations(model, every=every)
    embeds = torch.randn(2, length, WIDTH, dtype=dtype, requires_grad=True)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with LiveBytes(weights=[*model.parameters(), *model.buffers(), embeds]) as live:
        output = model(inputs_embeds=embeds, use_cache=False).last_hidden_state
        output.backward(torch.ones_like(output))
    sizes = MemoryModel(
        shape=shape_of(model),
        stored_bytes=0,
        decoder_bytes=0,
        copied_bytes=0,
        num_learning=0,
        gradient_bytes=sum(parameter.nbytes for parameter in learning),
        state_bytes=0,
        value_bytes=value_bytes,
        cast_bytes=cast_bytes,
        residual_bytes=dtype.itemsize,
    )
    batch = BatchSize(samples=2, tokens=2 * length, supervised=0, input_bytes=0)
    assert estimate_memory(sizes, batch, every=every).passing == pytest.approx(live.peak, rel=0.07)


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
