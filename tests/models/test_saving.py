"""Adapter folders come back bit by bit, or are refused by name."""

import json
from functools import partial

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, AutoTokenizer

from velm_train.core.errors import ArtifactError
from velm_train.core.hashing import sha256_file
from velm_train.models.build import LANGUAGE_MODEL, copy_tokenizer
from velm_train.models.families.build import assemble_family
from velm_train.models.families.tiny import build_tiny
from velm_train.models.families.writer import INSPECT_TOKEN
from velm_train.models.look_twice.adapter import LookTwiceSettings
from velm_train.models.lora import LoraSettings
from velm_train.models.saving import write_files

OPTIONS = [[[20, 2], [21, 22, 2]]] * 3


@pytest.fixture
def saved(make_model, trained, tmp_path):
    model = trained(make_model())
    model.save_adapter(tmp_path / "adapter")
    return tmp_path / "adapter"


def _scores(model, make_batch):
    return torch.stack(model.option_log_likelihoods(make_batch(model), options=OPTIONS))


@pytest.mark.parametrize("variant", ["lora", "rslora", "dora", "pissa"])
def test_a_round_trip_gives_the_same_scores_bit_by_bit(variant, make_model, trained, make_batch, tmp_path):
    lora = LoraSettings(r=4, alpha=8.0, variant=variant)
    model, other = trained(make_model(lora=lora)), make_model(lora=lora, seed=9)
    before = _scores(model, make_batch)
    assert not torch.equal(_scores(other, make_batch), before)
    model.save_adapter(tmp_path / "adapter")
    other.load_adapter(tmp_path / "adapter")
    assert torch.equal(_scores(other, make_batch), before)


def test_the_folder_is_what_peft_reads(saved, make_model, trained, tiny_language_model):
    assert sorted(path.name for path in saved.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "look_twice.safetensors",
        "manifest.json",
        "projector.safetensors",
    ]
    from_peft = PeftModel.from_pretrained(tiny_language_model(), saved).eval()
    ours = trained(make_model()).language_model.eval()
    input_ids = torch.tensor([[5, 9, 11]])
    with torch.no_grad():
        assert torch.equal(from_peft(input_ids=input_ids).logits, ours(input_ids=input_ids).logits)


def test_weights_that_a_library_writes_have_the_permissions_of_other_files(tmp_path):
    (tmp_path / "plain").write_text("")
    write_files(tmp_path, lambda folder: save_file({"a": torch.zeros(1)}, folder / "model.safetensors"))
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_another_base_is_refused_with_what_is_there_and_what_is_allowed(saved, make_model):
    other = make_model(weights_identity="other towers")
    got, allowed = make_model().identity[:12], other.identity[:12]
    with pytest.raises(
        ArtifactError,
        match=rf"identity of its base is embedded 'tiny_llama' \({got}\), allowed is .* \({allowed}\); build the model",
    ):
        other.load_adapter(saved)


def test_the_manifest_says_what_the_weights_belong_to(saved, make_model):
    manifest = json.loads((saved / "manifest.json").read_text())
    assert manifest["schema_version"] == 2
    assert manifest["base"] == {"id": "tiny_llama", "identity": make_model().identity}
    assert manifest["family"] == "embedded"
    assert manifest["settings"]["look_twice"]["source"] == "fused"
    assert manifest["settings"]["lora"]["r"] == 4
    assert set(manifest["versions"]) == {"velm_train", "torch", "transformers", "peft", "safetensors"}
    written = {path.name for path in saved.iterdir()} - {"manifest.json"}
    assert {name: entry["sha256"] for name, entry in manifest["files"].items()} == {
        name: sha256_file(saved / name) for name in written
    }


def test_another_schema_version_is_refused(saved, make_model):
    manifest = json.loads((saved / "manifest.json").read_text())
    (saved / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 1}))
    with pytest.raises(ArtifactError, match="schema version 1 instead of 2; train it again"):
        make_model().load_adapter(saved)


def test_a_second_save_replaces_the_first(saved, make_model, make_batch):
    model = make_model(seed=3)
    model.save_adapter(saved)
    other = make_model()
    other.load_adapter(saved)
    assert torch.equal(_scores(other, make_batch), _scores(model, make_batch))


def test_tokenizer_files_are_part_of_the_folder(assets, make_model, tmp_path):
    model = make_model()
    model.write_tokenizer = partial(copy_tokenizer, assets.ensure(LANGUAGE_MODEL))
    model.save_adapter(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)("a part")["input_ids"]
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"tokenizer\.json is damaged"):
        make_model().load_adapter(tmp_path)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "smolvlm"])
@pytest.mark.parametrize("train_projector", [False, True])
def test_a_family_comes_back_bit_by_bit_with_its_processor(family, train_projector, trained, tmp_path):
    def build():
        return assemble_family(
            build_tiny(family),
            look_twice=LookTwiceSettings(source="learned", dim=16),
            lora=LoraSettings(r=4, alpha=8.0),
            seed=0,
            train_projector=train_projector,
        )

    model, other = trained(build()), build()
    model.save_adapter(tmp_path)
    assert (tmp_path / "projector.safetensors").exists() == train_projector
    other.load_adapter(tmp_path)
    for group, parameters in model.trainable_groups().items():
        for own, found in zip(parameters, other.trainable_groups()[group], strict=True):
            assert torch.equal(own, found), group
    processor = AutoProcessor.from_pretrained(tmp_path, local_files_only=True)
    assert processor.tokenizer.convert_tokens_to_ids(INSPECT_TOKEN) == model.inspect_token_id


def test_an_adapter_of_another_family_is_refused(saved):
    model = assemble_family(
        build_tiny("internvl"), look_twice=LookTwiceSettings(source="off"), lora=LoraSettings(r=4), seed=0
    )
    with pytest.raises(ArtifactError, match=r"its base is embedded .* this model, internvl 'tiny_internvl'"):
        model.load_adapter(saved)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"lora": LoraSettings(r=4, alpha=16.0)}, "'alpha': 8.0.* there.*'alpha': 16.0"),
        ({"look_twice": LookTwiceSettings(source="learned", dim=16)}, "'source': 'fused'.* there"),
        ({"look_twice": LookTwiceSettings(source="off")}, "look_twice is"),
    ],
)
def test_other_settings_are_refused_by_name(changed, named, saved, make_model):
    with pytest.raises(ArtifactError, match=named):
        make_model(**changed).load_adapter(saved)


def test_a_damaged_file_is_refused(saved, make_model):
    path = saved / "projector.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    with pytest.raises(ArtifactError, match=r"projector\.safetensors is damaged"):
        make_model().load_adapter(saved)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "look_twice.safetensors"])
def test_keys_that_do_not_match_exactly_are_refused_and_nothing_is_changed(name, saved, make_model, make_batch):
    tensors = load_file(saved / name)
    tensors.pop(sorted(tensors)[0])
    save_file(tensors | {"surplus": torch.zeros(1)}, saved / name)
    manifest = json.loads((saved / "manifest.json").read_text())
    manifest["files"][name]["sha256"] = sha256_file(saved / name)
    (saved / "manifest.json").write_text(json.dumps(manifest))
    model = make_model()
    before = _scores(model, make_batch)
    with pytest.raises(ArtifactError, match=r"1 tensors missing .*, 1 unexpected \['surplus'\]"):
        model.load_adapter(saved)
    assert torch.equal(_scores(model, make_batch), before)


def test_a_folder_without_manifest_is_not_finished(saved, make_model):
    (saved / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match=r"manifest\.json cannot be read"):
        make_model().load_adapter(saved)


def test_a_missing_file_is_named(saved, make_model):
    (saved / "adapter_model.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"adapter_model\.safetensors is missing"):
        make_model().load_adapter(saved)
