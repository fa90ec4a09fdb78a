"""Both training stages on the real embedded family: resumed, recomputed, tried first, moved otherwise."""

import json
import signal
from dataclasses import replace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from velm_train.core.batch import IGNORE_INDEX, Batch, VisionEvidence
from velm_train.core.errors import ResourceError
from velm_train.models.build import assemble_embedded
from velm_train.models.embedded.vision import LEVEL_DIM, SOURCE_DIMS, TwoTowers, VisionSettings
from velm_train.models.look_twice.adapter import LookTwiceSettings
from velm_train.models.lora import LoraSettings
from velm_train.training import preflight
from velm_train.training.alignment import AlignmentLoss, make_vocabulary
from velm_train.training.batches import AlignmentBatch
from velm_train.training.datamodule import SampleDataModule
from velm_train.training.divergence import DivergedError
from velm_train.training.fit import AlignmentParts, Engine, fit_adapter, fit_alignment
from velm_train.training.optimiser import Optimisation
from velm_train.training.preflight import MemorySettings
from velm_train.training.rehearsal import Room
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

    def collate(indices, visits=None):
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


def tune(model, engine, output, *, kind="adamw"):
    return fit_adapter(
        model,
        samples(model),
        optimisation=Optimisation(max_steps=4, learning_rates=RATES, weight_decay=0.01, kind=kind),
        engine=engine,
        output=output,
        bce_weight=0.5,
    )


def tune_in_two_parts(engine, output, *, passes, kind="adamw"):
    """Interrupts a run in the given forward pass; a fresh model, with nothing but the checkpoint, goes on."""
    parts, continued, calls = build(), build(), []

    def stop(module, inputs):
        calls.append(1)
        if len(calls) == passes:
            signal.raise_signal(signal.SIGINT)

    parts.projector.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        tune(parts, engine, output, kind=kind)
    return tune(continued, engine, output, kind=kind), continued


def assert_same_run(first, second, models):
    assert first.losses == second.losses
    for (name, value), other in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        assert torch.equal(value, other), name


def test_interrupted_and_continued_equals_uninterrupted_bitwise(cpu, output_in, tmp_path):
    whole = build()
    start = {name: value.clone() for name, value in whole.named_parameters()}
    first = tune(whole, cpu, output_in(tmp_path / "a"))
    second, continued = tune_in_two_parts(cpu, output_in(tmp_path / "b"), passes=3)
    assert second.first_step == 2
    assert first.losses == second.losses
    for (name, value), other in zip(whole.named_parameters(), continued.parameters(), strict=True):
        assert torch.equal(value, other), name
        assert torch.equal(value, start[name]) == (not value.requires_grad), name
    checkpoint = torch.load(max((tmp_path / "a" / "checkpoints").glob("*.ckpt")), weights_only=True)
    trainable = {f"model.{name}" for name, value in whole.named_parameters() if value.requires_grad}
    assert set(checkpoint["state_dict"]) == trainable


def test_alignment_trains_projector_and_adapter_and_nothing_else(cpu, output_in, tmp_path):
    model = build()
    before = {name: value.clone() for name, value in model.named_parameters()}
    words = {" good": [4], " crack": [5, 6]}
    embedding = model.language_model.get_input_embeddings()
    vocabulary = make_vocabulary(["crack"], tokenize=words.__getitem__, embedding=embedding)

    def collate(indices, visits=None):
        word = torch.tensor([i % 2 for i in indices])
        return AlignmentBatch(evidence=evidence(indices), view_word=word, view_anomalous=word.float())

    facts = [
        SampleFacts(
            sample_id="s",
            category="nut",
            false_alarm=False,
            answer_type=str(i % 2),
            num_tokens=16,
            num_supervised=16,
            num_scored_views=1,
        )
        for i in range(6)
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


@pytest.mark.parametrize(("checkpointing", "again"), [("every_n", [True, False]), ("full", [True, True])])
def test_checkpointing_changes_no_number(cpu, output_in, tmp_path, checkpointing, again):
    kept, recomputed = build(), build()
    first = tune(kept, cpu, output_in(tmp_path / "kept"))
    seen = []
    recomputed.projector.register_forward_pre_hook(
        lambda module, inputs: seen.append([bool(block.gradient_checkpointing) for block in recomputed.decoder.layers])
    )
    engine = replace(cpu, memory=MemorySettings(checkpointing=checkpointing))
    second = tune(recomputed, engine, output_in(tmp_path / "again"))
    assert_same_run(first, second, (kept, recomputed))
    assert seen == [again] * 8  # four steps of two passes
    assert not any(block.gradient_checkpointing for block in recomputed.decoder.layers)


@pytest.mark.parametrize("checkpointing", ["auto", "full"])
def test_training_after_a_pre_flight_is_as_if_there_had_been_none(cpu, output_in, tmp_path, checkpointing):
    plain, tried = build(), build()
    first = tune(plain, cpu, output_in(tmp_path / "plain"))
    passes = []
    tried.projector.register_forward_pre_hook(lambda module, inputs: passes.append(1))
    engine = replace(cpu, memory=MemorySettings(checkpointing=checkpointing, preflight="on"))
    second = tune(tried, engine, output_in(tmp_path / "tried"))
    assert len(passes) == 1 + 8
    assert_same_run(first, second, (plain, tried))


def test_a_run_that_goes_on_after_a_pre_flight_is_the_uninterrupted_one(cpu, output_in, tmp_path):
    whole = build()
    first = tune(whole, cpu, output_in(tmp_path / "a"))
    engine = replace(cpu, memory=MemorySettings(preflight="on"))
    second, continued = tune_in_two_parts(engine, output_in(tmp_path / "b"), passes=1 + 3)
    assert second.first_step == 2
    assert_same_run(first, second, (whole, continued))


@pytest.mark.parametrize(
    ("too_much", "said"),
    [
        (0, "it fits, so all activations are kept"),
        (1, "one block in 2 computes its activations again"),
        (2, "all blocks compute their activations again"),
    ],
)
def test_auto_recomputes_as_little_as_fits(cpu, output_in, tmp_path, monkeypatch, too_much, said):
    model, notes, asked = build(), [], []

    def room(device):
        asked.append(device)  # once for what is held, then before every try
        return Room(held=0, limit=10**15 if len(asked) > 1 + too_much else 0)

    monkeypatch.setattr(preflight, "room_on", room)
    output = output_in(tmp_path)
    output.progress.note = notes.append
    tune(model, replace(cpu, memory=MemorySettings(checkpointing="auto", preflight="on")), output)
    assert notes[0].startswith("pre-flight: peak memory of the largest batch (2 samples, 28 tokens) is ")
    assert notes[-1] == f"trainer.checkpointing=auto: {said}"


def test_no_room_for_the_largest_batch_is_one_line_with_what_would_help(cpu, output_in, tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "room_on", lambda device: Room(held=0, limit=1000))
    model = build()
    engine = replace(cpu, memory=MemorySettings(checkpointing="off", preflight="on"))
    with pytest.raises(ResourceError) as caught:
        tune(model, engine, output_in(tmp_path))
    line = str(caught.value)
    assert line.startswith("out of memory at micro-batch 0 of 2 samples and 28 tokens (s, s): it takes about ")
    for knob in ("trainer.batch_size=1", "trainer.token_budget=14", "trainer.checkpointing=full", "lora=qlora"):
        assert f"{knob} about " in line
    assert "\n" not in line
    assert list((tmp_path / "checkpoints").glob("*.ckpt")) == []


@pytest.mark.parametrize("kind", ["adamw_fused", "adamw_8bit"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_other_optimisers_clip_and_go_on_where_they_were_interrupted(cpu, output_in, tmp_path, kind, precision):
    engine, whole = replace(cpu, precision=precision), build()
    first = tune(whole, engine, output_in(tmp_path / "a"), kind=kind)
    second, continued = tune_in_two_parts(engine, output_in(tmp_path / "b"), passes=3, kind=kind)
    assert second.first_step == 2
    assert_same_run(first, second, (whole, continued))


def test_a_loss_that_is_not_finite_stops_a_run_with_pre_flight_and_checkpointing_by_its_samples(
    cpu, output_in, tmp_path
):
    model = build()
    with torch.no_grad():
        model.projector.hidden.weight.fill_(float("nan"))
    engine = replace(cpu, memory=MemorySettings(checkpointing="full", preflight="on"))
    with pytest.raises(DivergedError, match=r"the loss of optimiser step 1 is nan"):
        tune(model, engine, output_in(tmp_path), kind="adamw_fused")
    report = json.loads((tmp_path / "diverged.json").read_text())
    assert [one["micro_batch"] for one in report["passes"]] == [0]
    assert list((tmp_path / "checkpoints").glob("*.ckpt")) == []


@pytest.mark.gpu
def test_on_a_gpu_the_pre_flight_runs_by_itself_and_pages_its_optimiser(output_in, tmp_path):
    model, notes = build(), []
    output = output_in(tmp_path)
    output.progress.note = notes.append
    memory = MemorySettings(checkpointing="auto", preflight="auto")
    summary = tune(model, Engine(accelerator="gpu", memory=memory), output, kind="paged_adamw_8bit")
    assert notes[0].startswith("pre-flight: peak memory of the largest batch (2 samples, 28 tokens) is ")
    assert notes[1] == "trainer.checkpointing=auto: it fits, so all activations are kept"
    assert summary.peak_memory_bytes > 0
    assert summary.losses[-1] < summary.losses[0]
