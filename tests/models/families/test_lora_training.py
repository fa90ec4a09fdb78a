"""Every variant of LoRA on every family: it starts as the base, learns alone, overfits, and merges."""

import pytest
import torch

from velm_train.models.look_twice.adapter import LookTwiceSettings
from velm_train.models.lora import LoraSettings, has_lora
from velm_train.models.lora_merging import merge_into_base
from velm_train.models.recompute import keep_activations, recompute_activations

VARIANTS = ["lora", "rslora", "dora", "pissa"]
SIZES = [(100, 150), (60, 56), (150, 40)]
TEXTS = ["The part: is it cut?", "Cut?", "Which of these defects does the picture show?"]


@pytest.fixture
def mixed(make_prompts, pictures):
    def make(model):
        return make_prompts(model, [[view] for view in pictures(SIZES)], texts=TEXTS, answer=2)

    return make


def shake(model):
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for members in model.trainable_groups().values():
            for parameter in members:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize(("variant", "tolerance"), [("lora", 0), ("rslora", 0), ("dora", 1e-4), ("pissa", 1e-4)])
def test_fresh_it_equals_the_base(make_family, mixed, logits_of_batch, family, variant, tolerance):
    model, plain = make_family(family, lora=LoraSettings(r=4, variant=variant)).eval(), make_family(family)
    fresh, base = logits_of_batch(model, mixed(model)), logits_of_batch(plain, mixed(plain))
    torch.testing.assert_close(fresh, base, rtol=0, atol=tolerance)


@pytest.mark.parametrize("vision", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_should_learn_gets_a_gradient_and_nothing_else(make_family, mixed, family, variant, vision):
    model = shake(make_family(family, lora=LoraSettings(r=2, variant=variant, vision=vision))).train()
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(".lora_" in name for name in names)
    in_tower = {name for name in names if any(part in name for part in (".visual.", ".vision_"))}
    assert bool(in_tower) == vision
    batch = mixed(model)
    assert batch.evidence.final.requires_grad == vision
    model.training_output(batch).language_loss_sum.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert set(gradients) == names
    assert not [name for name in names if float(gradients[name].abs().sum()) == 0]


def test_views_are_encoded_without_gradient_where_nothing_in_the_tower_learns(make_family, pictures, family):
    learning = make_family(family, lora=LoraSettings(r=2, vision=True))
    with torch.no_grad():
        assert not learning.encode_views(pictures([(60, 56)])).final.requires_grad
    assert not make_family(family, train_projector=True).encode_views(pictures([(60, 56)])).final.requires_grad


def test_recomputing_activations_changes_no_gradient(make_family, mixed, family):
    def gradients(*, recompute):
        model = shake(make_family(family, lora=LoraSettings(r=2))).train()
        if recompute:
            recompute_activations(model.decoder)
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t
        ):
            loss = model.training_output(mixed(model)).language_loss_sum
        loss.backward()
        return [parameter.grad for parameter in model.trainable_groups()["lora"]], sum(kept)

    (plain, much), (recomputed, little) = gradients(recompute=False), gradients(recompute=True)
    assert all(torch.equal(a, b) for a, b in zip(plain, recomputed, strict=True))
    assert little < 0.5 * much


def test_recomputing_leaves_tower_and_embeddings_out_of_the_graph(make_family, family):
    model = make_family(family, lora=LoraSettings(r=2)).train()
    decoder = model.decoder
    recompute_activations(decoder)
    blocks = [module for module in decoder.modules() if getattr(module, "gradient_checkpointing", False)]
    assert blocks
    tower = model._tap.tower(model._vlm)
    assert not any(getattr(module, "gradient_checkpointing", False) for module in tower.modules())
    words = model._vlm.get_input_embeddings()
    assert not words(torch.tensor([[5, 6]])).requires_grad
    recompute_activations(decoder)  # once more changes nothing
    assert not words(torch.tensor([[5, 6]])).requires_grad


def test_one_block_in_two_is_recomputed_and_none_once_undone(make_family):
    decoder = make_family("qwen2_5_vl", lora=LoraSettings(r=2)).decoder
    recompute_activations(decoder, every=2)
    assert [bool(block.gradient_checkpointing) for block in decoder.layers] == [True, False, True]
    keep_activations(decoder)
    assert not any(getattr(module, "gradient_checkpointing", False) for module in decoder.modules())


@pytest.mark.parametrize("variant", VARIANTS)
def test_saved_loaded_and_merged_it_answers_the_same(make_family, mixed, logits_of_batch, family, variant, tmp_path):
    settings = LoraSettings(r=2, variant=variant)
    taught, reader = shake(make_family(family, lora=settings)).eval(), make_family(family, lora=settings).eval()
    batch = mixed(taught)
    answers = logits_of_batch(taught, batch)
    assert (logits_of_batch(reader, batch) - answers).abs().max() > 1e-2
    taught.save_adapter(tmp_path)
    reader.load_adapter(tmp_path)
    assert torch.equal(logits_of_batch(reader, batch), answers)
    with reader.merged_for_inference():
        torch.testing.assert_close(logits_of_batch(reader, batch), answers, rtol=0, atol=1e-3)
    assert torch.equal(logits_of_batch(reader, batch), answers)
    reader.language_model = merge_into_base(reader.language_model)
    assert not has_lora(reader)
    torch.testing.assert_close(logits_of_batch(reader, batch), answers, rtol=0, atol=1e-3)


@pytest.mark.slow
def test_eight_samples_are_learnt_by_heart(make_family, make_prompts, pictures, family):
    sizes = [(60, 56), (56, 90), (80, 60), (56, 56), (70, 58), (58, 70), (64, 56), (56, 64)]
    answers = ["cut", "dent", "hole", "stain", "thread", "crack", "scratch", "none"]
    model = make_family(
        family, look_twice=LookTwiceSettings(source="learned", dim=16), lora=LoraSettings(r=8, alpha=16.0)
    ).train()
    texts = [f"Defect? {answer}" for answer in answers]  # what differs in the prompt is the picture alone
    alone = model.writer.tokenizer("Defect?", add_special_tokens=False)["input_ids"]
    batch = make_prompts(model, [[view] for view in pictures(sizes)], texts=texts)
    behind = batch.attention_mask.flip(1).cumsum(1).flip(1)  # real tokens from here on
    lengths = torch.tensor([len(model.writer.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts])
    supervised = (batch.attention_mask == 1) & (behind <= (lengths - len(alone))[:, None])
    batch.labels[supervised] = batch.input_ids[supervised]
    learning = [parameter for members in model.trainable_groups().values() for parameter in members]
    optimiser = torch.optim.AdamW(learning, lr=0.01, weight_decay=0.0)
    for _ in range(80):
        output = model.training_output(batch)
        loss = output.language_loss_sum / output.num_supervised
        if loss.item() < 0.02:
            return
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    pytest.fail(f"loss is still {loss.item():.3f}")
