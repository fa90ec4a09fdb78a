"""Adapter folders come back bit by bit, or are refused by name."""

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from velm_train.core.errors import ArtifactError
from velm_train.core.hashing import sha256_file
from velm_train.models.look_twice.adapter import LookTwiceSettings
from velm_train.models.lora import LoraSettings

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


def test_another_base_is_refused(saved, make_model):
    with pytest.raises(ArtifactError, match="identity of its base"):
        make_model(weights_identity="other towers").load_adapter(saved)


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
