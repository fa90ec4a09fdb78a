"""Merged folders answer like the adapter, open with plain transformers, and are refused if anything was changed."""

import dataclasses
import json
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from velm_train.core.batch import IGNORE_INDEX, Batch
from velm_train.core.errors import ArtifactError, ConfigError, ExportError
from velm_train.core.hashing import sha256_file
from velm_train.models.build import build_embedded
from velm_train.models.embedded.vision import VisionSettings
from velm_train.models.export import merging
from velm_train.models.export.checked import evidence_difference, export_merged
from velm_train.models.export.merging import load_merged, merge_adapters
from velm_train.models.families.build import assemble_family
from velm_train.models.families.tiny import build_tiny
from velm_train.models.look_twice.adapter import LookTwiceSettings
from velm_train.models.lora import LoraSettings


@pytest.fixture
def export(ask_family, pictures, assets, tmp_path):
    """Exports a tiny family into a folder; `spoil` changes the reloaded model before it is asked."""

    def run(model, *, spoil=None, dtype=torch.float32, tolerance_nats=1e-3):
        def reload(folder):
            again = load_merged(folder, assets=assets)
            if spoil is not None:
                spoil(again)
            return again

        parity = export_merged(
            model,
            tmp_path / "model",
            ask=ask_family,
            reload=reload,
            pictures=pictures,
            dtype=dtype,
            tolerance_nats=tolerance_nats,
        )
        return parity, tmp_path / "model"

    return run


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl", "llava_onevision", "smolvlm", "internvl"])
def test_a_family_answers_alike_in_every_form_and_opens_with_plain_transformers(
    family, tuned_family, export, pictures
) -> None:
    model = tuned_family(family)
    before = ask_plain(model.language_model.get_base_model(), model.writer, pictures)  # LoRA is inside
    parity, folder = export(model)
    for agreement in (parity.merged, parity.reloaded):
        assert agreement.flipped == ()
        assert agreement.num_answers == 9
        assert agreement.largest_difference_nats < 1e-3
    assert parity.evidence_difference == 0.0

    plain = AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True).eval()
    processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    after = ask_plain(plain, dataclasses.replace(model.writer, processor=processor), pictures)
    torch.testing.assert_close(after, before, atol=1e-3, rtol=1e-4)


def ask_plain(vlm, writer, pictures) -> torch.Tensor:
    """Returns the logits of the family's own forward behind its own processor."""
    marker = writer.image_token
    if writer.tap.family.startswith("qwen"):
        marker = f"<|vision_start|>{marker}<|vision_end|>"
    inputs = writer.processor(text=[f"{marker}is it cut?"], images=[[pictures[0]]], return_tensors="pt")
    with torch.no_grad():
        return vlm(**inputs).logits


@pytest.mark.parametrize("variant", ["rslora", "dora", "pissa"])
def test_every_variant_of_lora_merges(variant, tuned_family, export) -> None:
    model = tuned_family("qwen2_5_vl", lora=LoraSettings(r=4, alpha=8.0, variant=variant))
    parity, folder = export(model)
    assert parity.reloaded.largest_difference_nats < 1e-3
    assert json.loads((folder / "manifest.json").read_text())["lora"]["r"] == 4


def test_a_projector_that_has_learned_is_part_of_the_merged_weights(tuned_family, export) -> None:
    parity, folder = export(tuned_family("internvl", train_projector=True))
    assert parity.reloaded.largest_difference_nats < 1e-3
    assert not (folder / "projector.safetensors").exists()


@pytest.mark.parametrize(
    "name", ["language_model.layers.1.mlp.down_proj", "language_model.layers.0.self_attn.v_proj", "visual.merger.mlp.0"]
)
def test_one_spoilt_weight_of_the_reloaded_model_is_refused(name, tuned_family, export) -> None:
    def spoil(model) -> None:
        with torch.no_grad():
            model.language_model.model.get_submodule(name).weight[0].add_(2.0)

    with pytest.raises(ExportError, match="the reloaded model does not answer like"):
        export(tuned_family("qwen2_5_vl"), spoil=spoil)


def test_a_spoilt_tower_is_refused_even_if_the_answers_hold(tuned_family, export) -> None:
    def spoil(model) -> None:
        with torch.no_grad():
            model.language_model.model.visual.patch_embed.proj.weight.mul_(1.001)

    with pytest.raises(ExportError, match="the reloaded vision tower sees otherwise"):
        export(tuned_family("qwen2_5_vl"), spoil=spoil, tolerance_nats=50.0)


def test_a_spoilt_merge_is_refused_before_anything_is_saved(tuned_family, export, ask_family, monkeypatch) -> None:
    plain = merging.merge_into_base

    def without_last(language_model, *, dequantise):
        base = plain(language_model, dequantise=dequantise)
        with torch.no_grad():
            base.model.language_model.layers[2].mlp.up_proj.weight.add_(0.1)
        return base

    monkeypatch.setattr(merging, "merge_into_base", without_last)
    with pytest.raises(ExportError, match="the merged model does not answer like"):
        export(tuned_family("qwen2_5_vl"))


def test_a_quantised_base_becomes_a_plain_one(tuned_family, export) -> None:
    pytest.importorskip("bitsandbytes")
    model = tuned_family("qwen2_5_vl", lora=LoraSettings(r=4, alpha=8.0, quantisation="nf4"))
    parity, folder = export(model, tolerance_nats=0.05)
    assert parity.reloaded.largest_difference_nats < 0.05
    AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True)


def test_a_model_without_lora_has_nothing_to_merge(tuned_family) -> None:
    model = tuned_family("qwen2_5_vl")
    merge_adapters(model, dtype=torch.float32)
    with pytest.raises(ConfigError, match="no LoRA to merge"):
        merge_adapters(model, dtype=torch.float32)


def test_changed_folders_are_refused_by_name(tuned_family, export, assets) -> None:
    _, folder = export(tuned_family("smolvlm"))
    path = folder / "look_twice.safetensors"
    whole, manifest = path.read_bytes(), (folder / "manifest.json").read_text()
    load = partial(load_merged, folder, assets=assets)

    path.write_bytes(whole[:-1] + b"\x01")
    with pytest.raises(ArtifactError, match=r"look_twice\.safetensors is damaged"):
        load()
    path.unlink()
    with pytest.raises(ArtifactError, match=r"look_twice\.safetensors is missing"):
        load()

    path.write_bytes(whole)
    tensors = load_file(path)
    tensors.pop("selector.locality")
    save_file(tensors | {"surplus": torch.zeros(1)}, path)
    edited = json.loads(manifest)
    edited["files"]["look_twice.safetensors"]["sha256"] = sha256_file(path)
    (folder / "manifest.json").write_text(json.dumps(edited))
    with pytest.raises(ArtifactError, match=r"1 tensors missing \['selector.locality'\], 1 unexpected \['surplus'\]"):
        load()

    (folder / "manifest.json").write_text(json.dumps(json.loads(manifest) | {"schema_version": 99}))
    with pytest.raises(ArtifactError, match="schema version 99 instead of 1; export the run again"):
        load()


def test_evidence_of_other_tiles_is_infinitely_far() -> None:
    model = assemble_family(build_tiny("qwen2_5_vl"), look_twice=LookTwiceSettings(source="off"), lora=None, seed=0)
    picture = np.zeros((56, 84, 3), dtype=np.uint8)
    one, other = model.encode_views([picture]), model.encode_views([picture.transpose(1, 0, 2).copy()])
    assert evidence_difference(one, one) == 0.0
    assert evidence_difference(one, other) == float("inf")


def test_the_embedded_model_comes_back_with_its_real_weights(assets, trained, to_answers, pictures, tmp_path) -> None:
    model = build_embedded(
        assets=assets,
        vision=VisionSettings(cnn_px=96, vit_px=84, first_look_grid=3),
        look_twice=LookTwiceSettings(source="fused", dim=16),
        lora=LoraSettings(r=2, alpha=1.0, targets="attention"),
        seed=0,
        dtype=torch.bfloat16,
    )
    with torch.no_grad():
        for parameter in model.trainable_groups()["lora"]:
            parameter.add_(0.01)

    def ask(form):
        visual = [form.image_token_id] * form.num_first_look + [form.inspect_token_id] * form.num_second_look
        input_ids = torch.tensor([[1, *visual, 260 + row, 300, 301] for row in range(len(pictures))])
        batch = Batch(
            input_ids=input_ids,
            attention_mask=torch.ones_like(input_ids),
            labels=torch.full_like(input_ids, IGNORE_INDEX),
            evidence=form.encode_views(pictures),
            view_sample=torch.arange(len(pictures)),
            view_anomalous=torch.zeros(len(pictures)),
            sample_ids=("a", "b", "c"),
        )
        return to_answers(form.option_log_likelihoods(batch, options=[[[400, 2], [500, 2]]] * len(pictures)))

    folder = tmp_path / "model"
    parity = export_merged(
        model.eval(),
        folder,
        ask=ask,
        reload=partial(load_merged, assets=assets),
        pictures=pictures,
        dtype=torch.bfloat16,
        tolerance_nats=2.0,
    )
    assert parity.reloaded.largest_difference_nats == parity.merged.largest_difference_nats  # the same bits
    assert parity.evidence_difference == 0.0
    inner = folder / "language_model"
    assert AutoTokenizer.from_pretrained(inner, local_files_only=True)("a part")["input_ids"]
    assert AutoModelForCausalLM.from_pretrained(inner, local_files_only=True).config.vocab_size == 49152

    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["base"]["id"] == "smollm2_135m_instruct"
    manifest["assembly"]["evidence"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="made with other vision towers"):
        load_merged(folder, assets=assets)
