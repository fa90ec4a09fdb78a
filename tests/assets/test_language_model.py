"""SmolLM2: names and row order by hand, and the real folder in transformers, offline."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from velm_train.assets.language_model import huggingface_name, split_halves
from velm_train.core.errors import AssetError


@pytest.mark.parametrize(
    ("gguf_name", "expected"),
    [
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("output_norm.weight", "model.norm.weight"),
        ("blk.7.attn_q.weight", "model.layers.7.self_attn.q_proj.weight"),
        ("blk.29.ffn_norm.weight", "model.layers.29.post_attention_layernorm.weight"),
    ],
)
def test_tensors_get_the_names_of_llama(gguf_name, expected):
    assert huggingface_name(gguf_name) == expected


@pytest.mark.parametrize("name", ["output.weight", "blk.0.attn_sinks.weight", "blk.0.attn_q"])
def test_unknown_tensor_is_refused(name):
    with pytest.raises(AssetError, match="has no place"):
        huggingface_name(name)


def test_rows_of_each_head_are_split_into_halves():
    # Two heads of width 4: rows 0 1 | 2 3 turn together; Hugging Face wants 0 2 | 1 3, head by head.
    rows = np.arange(8, dtype=np.float32)[:, None].repeat(3, axis=1)
    assert split_halves(rows, num_heads=2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_real_model_completes_a_sentence_offline(assets):
    folder = assets.ensure("smollm2_135m_instruct")
    model, report = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert not hasattr(model.config, "quantization_config")
    assert model.num_parameters() == 134_515_008
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    inputs = tokenizer("The capital of France is", return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits
    assert tokenizer.decode(logits[0, -1].argmax()) == " Paris"
    assert len(tokenizer("2026")["input_ids"]) == 4
    assert tokenizer.eos_token == "<|im_end|>"
    assert "<|im_start|>user" in tokenizer.apply_chat_template([{"role": "user", "content": "?"}], tokenize=False)
