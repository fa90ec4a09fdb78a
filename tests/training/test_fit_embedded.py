"""Both training stages on the real embedded family with a tiny language model and cached evidence."""

import signal

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from velm_train.core.batch import IGNORE_INDEX, Batch, VisionEvidence
from velm_train.models.build import assemble_embedded
from velm_train.models.embedded.vision import LEVEL_DIM, SOURCE_DIMS, TwoTowers, VisionSettings
from velm_train.models.look_twice.adapter import LookTwiceSettings
from velm_train.models.lora import LoraSettings
from velm_train.training.alignment import AlignmentLoss, make_vocabulary
from velm_train.training.batches import AlignmentBatch
from velm_train.training.datamodule import SampleDataModule
from velm_train.training.fit import AlignmentParts, fit_adapter, fit_alignment
from velm_train.training.optimiser import Optimisation
from velm_train.training.samplers import SampleFacts

RATES = {"lora": 1e-3, "projector": 1e-3, "look_twice": 1e-3}
NUM_TOKENS, NUM_SAMPLES = 16, 6


def no_towers(device):
    raise AssertionError(f"training runs on cached evidence; nothing may load the towers on {device}")


def build():
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=2,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    return assemble_embedded(
        towers=TwoTowers(
            load=no_towers,
            weights_identity="none",
            settings=VisionSettings(cnn_px=128, vit_px=112, first_look_grid=2, level_layers=("block3",)),
        ),
        language_model=LlamaForCausalLM(config).eval(),
        language_model_name="tiny",
        language_model_identity="tiny",
        look_twice=LookTwiceSettings(source="fused", dim=16),
        lora=LoraSettings(r=2, alpha=4.0, dropout=0.2),
        seed=0,
    )


def evidence(indices):
    chosen = list(indices)
    rngs = [torch.Generator().manual_seed(i) for i in chosen]
    n = len(chosen)
    return VisionEvidence(
        final=torch.stack([torch.randn(NUM_TOKENS, sum(SOURCE_DIMS), generator=rng) for rng in rngs]),
        levels=torch.stack([torch.randn(1, NUM_TOKENS, LEVEL_DIM, generator=rng) for rng in rngs], dim=1),
        grid_hw=torch.tensor([[4, 4]] * n),
        view_index=torch.arange(n),
        is_global=torch.ones(n, dtype=torch.bool),
        valid=torch.ones(n, NUM_TOKENS, dtype=torch.bool),
        map_scores=torch.stack([2 * torch.rand(NUM_TOKENS, generator=rng) for rng in rngs]),
    )


def samples(model):
    visual = [model.image_token_id] * model.num_first_look + [model.inspect_token_id] * model.num_second_look

    def collate(indices):
        ids = torch.tensor([[1, *visual, 5, 6, 7 + i, 3] for i in indices])
        labels = torch.full_like(ids, IGNORE_INDEX)
        labels[:, -2:] = ids[:, -2:]
        return Batch(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            labels=labels,
            evidence=evidence(indices),
            view_sample=torch.arange(len(ids)),
            view_anomalous=torch.tensor([float(i % 2) for i in indices]),
            sample_ids=tuple(str(i) for i in indices),
        )

    facts = [
        SampleFacts(
            sample_id="s",
            category="nut",
            false_alarm=False,
            answer_type=str(i),
            num_tokens=len(visual) + 5,
            num_supervised=2,
            num_scored_views=1,
        )
        for i in range(NUM_SAMPLES)
    ]
    return SampleDataModule(facts, collate=collate, batch_size=2, accumulate=2, seed=0)


def tune(model, cpu, output):
    return fit_adapter(
        model,
        samples(model),
        optimisation=Optimisation(max_steps=4, learning_rates=RATES, weight_decay=0.01),
        engine=cpu,
        output=output,
        bce_weight=0.5,
    )


def test_interrupted_and_continued_equals_uninterrupted_bitwise(cpu, output_in, tmp_path):
    whole, parts, continued = build(), build(), build()
    start = {name: value.clone() for name, value in whole.named_parameters()}
    first = tune(whole, cpu, output_in(tmp_path / "a"))
    calls = []

    def stop_in_step_two(module, inputs):
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)

    parts.projector.register_forward_pre_hook(stop_in_step_two)
    with pytest.raises(KeyboardInterrupt):
        tune(parts, cpu, output_in(tmp_path / "b"))
    second = tune(continued, cpu, output_in(tmp_path / "b"))
    assert second.first_step == 2
    assert first.losses == second.losses
    for (name, value), other in zip(whole.named_parameters(), continued.parameters(), strict=True):
        assert torch.equal(value, other), name
        assert torch.equal(value, start[name]) == (not value.requires_grad), name
    checkpoint = torch.load(tmp_path / "a" / "last.ckpt", weights_only=True)
    trainable = {f"model.{name}" for name, value in whole.named_parameters() if value.requires_grad}
    assert set(checkpoint["state_dict"]) == trainable


def test_alignment_trains_projector_and_adapter_and_nothing_else(cpu, output_in, tmp_path):
    model = build()
    before = {name: value.clone() for name, value in model.named_parameters()}
    words = {" good": [4], " crack": [5, 6]}
    embedding = model.language_model.get_input_embeddings()
    vocabulary = make_vocabulary(["crack"], tokenize=words.__getitem__, embedding=embedding)

    def collate(indices):
        word = torch.tensor([i % 2 for i in indices])
        return AlignmentBatch(evidence=evidence(indices), view_word=word, view_anomalous=word.float())

    facts = [
        SampleFacts(
            sample_id="s",
            category="nut",
            false_alarm=False,
            answer_type=str(i % 2),
            num_tokens=NUM_TOKENS,
            num_supervised=NUM_TOKENS,
            num_scored_views=1,
        )
        for i in range(NUM_SAMPLES)
    ]
    summary = fit_alignment(
        AlignmentParts(projector=model.projector, look_twice=model.look_twice, vocabulary=vocabulary),
        SampleDataModule(facts, collate=collate, batch_size=6, balance="type", seed=0),
        weights=AlignmentLoss(),
        optimisation=Optimisation(max_steps=8, learning_rates={"projector": 1e-3, "look_twice": 1e-3}),
        engine=cpu,
        output=output_in(tmp_path),
    )
    assert summary.losses[-1] < summary.losses[0]
    moved = {name.split(".")[0] for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"projector", "look_twice"}
