"""A small random text encoder embeds as transformers computes it, whatever stands beside it in the batch."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, BertConfig, BertModel, BertTokenizer

from velm_train.backbones.sentence_encoder import SentenceEncoder, load_sentence_encoder
from velm_train.core.errors import AssetError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "spot", "deep", "scratch", "on", "the", "rim"]
TEXTS = ["a deep scratch on the rim", "a spot", "red", ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("sentence model")
    (place / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    BertTokenizer(str(place / "vocab.txt"), model_max_length=16).save_pretrained(place)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=12,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=20,
        initializer_range=0.5,  # so that texts differ by more than rounding
    )
    BertModel(config).save_pretrained(place)
    return place


def one_by_one(folder: Path, *, first_token: bool) -> np.ndarray:
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), BertTokenizer.from_pretrained(folder)
    rows = []
    for text in TEXTS:
        with torch.no_grad():
            (hidden,) = model(**tokenizer([text], return_tensors="pt")).last_hidden_state
        rows.append((hidden[0] if first_token else hidden.mean(dim=0)).numpy())
    return np.stack(rows)


@pytest.mark.parametrize("mode", ["pooling_mode_mean_tokens", "pooling_mode_cls_token", None])
def test_embeddings_are_those_of_each_text_alone(folder, tmp_path, mode):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    if mode is not None:
        (tmp_path / "1_Pooling").mkdir()
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 12, mode: True}))
    found = load_sentence_encoder(str(tmp_path)).encode(TEXTS)
    expected = one_by_one(folder, first_token=mode == "pooling_mode_cls_token")
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(found, axis=0).max() > 0.1


def test_long_texts_are_cut_at_what_the_model_says(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 4}))
    encoder = SentenceEncoder(tmp_path, name="cut")
    long, short = encoder.encode(["red spot on the rim", "red spot"])  # 4 tokens with both marks
    np.testing.assert_allclose(long, short, atol=1e-5)
    assert SentenceEncoder(folder, name="whole").encode(["red " * 400]).shape == (1, 12)


def test_a_model_with_more_behind_the_pooling_is_refused(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Dense"}]))
    with pytest.raises(AssetError, match="has a module 'Dense'"):
        load_sentence_encoder(str(tmp_path))


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(AssetError, match=r"hub/models--owner--name of the hub cache .*`hf download owner/name`"):
        load_sentence_encoder("owner/name")
    with pytest.raises(AssetError, match=f"the folder {tmp_path}/none does not exist"):
        load_sentence_encoder(f"{tmp_path}/none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AssetError, match="cannot be loaded from"):
        load_sentence_encoder(str(tmp_path / "empty"))
    with pytest.raises(AssetError, match="neither a folder nor a hub id"):
        load_sentence_encoder("a b/c?")
