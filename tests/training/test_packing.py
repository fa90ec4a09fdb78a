"""Rows in training: the losses of padded passes, tried at the start, resumed exactly, switched off where not exact."""

import re
import signal

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from velm_train.core.batch import IGNORE_INDEX, Batch, Bundle, VisionEvidence
from velm_train.models.build import assemble_embedded
from velm_train.models.embedded.vision import LEVEL_DIM, SOURCE_DIMS, TwoTowers, VisionSettings
from velm_train.models.look_twice.adapter import LookTwiceSettings
from velm_train.models.lora import LoraSettings
from velm_train.models.packing import attention
from velm_train.training.bundles import SharedPrefix
from velm_train.training.datamodule import Rows, SampleDataModule
from velm_train.training.fit import fit_adapter
from velm_train.training.optimiser import Optimisation
from velm_train.training.packing_check import PackingCheck
from velm_train.training.samplers import SampleFacts

RATES = {"lora": 1e-3, "projector": 1e-3, "look_twice": 1e-3}
NUM_TOKENS, NUM_IMAGES, NUM_QUESTIONS = 16, 4, 3


def no_towers(device):
    raise AssertionError(f"training runs on cached evidence; nothing may load the towers on {device}")


def build(*, dropout=0.0):
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=2,
        tie_word_embeddings=True,
        initializer_range=0.3,
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
        lora=LoraSettings(r=2, alpha=4.0, dropout=dropout),
        seed=0,
    )


def evidence(images):
    rngs = [torch.Generator().manual_seed(image) for image in images]
    n = len(images)
    scores = torch.stack([2 * torch.rand(NUM_TOKENS, generator=rng) for rng in rngs])
    return VisionEvidence(
        final=torch.stack([torch.randn(NUM_TOKENS, sum(SOURCE_DIMS), generator=rng) for rng in rngs]),
        levels=torch.stack([torch.randn(1, NUM_TOKENS, LEVEL_DIM, generator=rng) for rng in rngs], dim=1),
        grid_hw=torch.tensor([[4, 4]] * n),
        view_index=torch.arange(n),
        is_global=torch.ones(n, dtype=torch.bool),
        valid=torch.ones(n, NUM_TOKENS, dtype=torch.bool),
        map_scores=scores,
        gt_scores=(scores > 1).float(),
    )


class Questions:
    """Each image is asked about three times, in 4, 7 and 10 tokens of which the last two are the answer."""

    def __init__(self, model):
        visual = [model.image_token_id] * model.num_first_look + [model.inspect_token_id] * model.num_second_look
        self.start = [1, *visual]
        self.rows = [
            [*self.start, *(3 + (5 * image + 3 * question + place) % 36 for place in range(4 + 3 * question))]
            for image in range(NUM_IMAGES)
            for question in range(NUM_QUESTIONS)
        ]

    def facts(self):
        return [
            SampleFacts(
                sample_id=f"sample {i}",
                category="nut",
                false_alarm=False,
                answer_type=str(i // NUM_QUESTIONS),
                num_tokens=len(row),
                num_supervised=2,
                num_scored_views=1,
                prefix=SharedPrefix(key=str(i // NUM_QUESTIONS), num_tokens=len(self.start)),
            )
            for i, row in enumerate(self.rows)
        ]

    def collate(self, indices, visits=None, *, bundles=None):
        del visits
        rows = [self.rows[i] for i in indices]
        width = max(map(len, rows))
        ids = torch.tensor([row + [2] * (width - len(row)) for row in rows])
        lengths = torch.tensor([[len(row)] for row in rows])
        places = torch.arange(width)
        first, shown = 0, []
        for bundle in bundles or [Bundle(lengths=(len(row),)) for row in rows]:
            shown.append(first)
            first += len(bundle.lengths)
        images = [indices[row] // NUM_QUESTIONS for row in shown]
        return Batch(
            input_ids=ids,
            attention_mask=(places < lengths).long(),
            labels=torch.where((places >= lengths - 2) & (places < lengths), ids, IGNORE_INDEX),
            evidence=evidence(images),
            view_sample=torch.tensor(shown),
            view_anomalous=torch.tensor([float(image % 2) for image in images]),
            sample_ids=tuple(str(i) for i in indices),
            bundles=bundles,
        )

    def in_row(self, plan):
        lengths = iter([len(self.rows[i]) for i in plan.samples])
        bundles = tuple(
            Bundle(lengths=tuple(next(lengths) for _ in range(one.num_samples)), num_shared=one.num_shared)
            for one in plan.bundles
        )
        return self.collate(plan.samples, bundles=bundles)


def feed(model, *, questions=None, accumulate=1, rows_on=True, token_budget=0):
    data = Questions(model)
    rows = None if questions is None else Rows(collate=data.in_row, questions_per_image=questions)
    module = SampleDataModule(
        data.facts(),
        collate=data.collate,
        batch_size=4,
        accumulate=accumulate,
        token_budget=token_budget,
        seed=0,
        rows=rows,
    )
    module.in_rows = module.in_rows and rows_on
    return module


@pytest.fixture
def tune(cpu, output_in, tmp_path):
    def run(name, model, module, *, output=None):
        return fit_adapter(
            model,
            module,
            optimisation=Optimisation(max_steps=6, learning_rates=RATES, weight_decay=0.01),
            engine=cpu,
            output=output or output_in(tmp_path / name),
            bce_weight=0.5,
            pos_weight=2.0,
            mask_weight=0.3,
        )

    return run


@pytest.fixture
def notes(output_in, tmp_path, monkeypatch):
    """Where a run reports to, and what it said."""
    lines: list[str] = []
    output = output_in(tmp_path / "noted")
    monkeypatch.setattr(type(output.progress), "note", lambda _, text: lines.append(text))
    return output, lines


def assert_same_losses(first, second):
    """Only rounding may differ, which AdamW makes more of from step to step."""
    assert first.losses[0] == pytest.approx(second.losses[0], rel=1e-6)
    assert first.losses == pytest.approx(second.losses, rel=1e-4)


def assert_same_way(first, second):
    """Weights moved alike as a whole; where a gradient is 0 but for rounding, AdamW turns rounding into steps."""
    start = dict(build().named_parameters())
    moved, apart = 0.0, 0.0
    for (name, one), other in zip(first.named_parameters(), second.parameters(), strict=True):
        moved += float((one - start[name]).detach().square().sum())
        apart += float((one - other).detach().square().sum())
    assert apart**0.5 < 0.01 * moved**0.5


@pytest.mark.parametrize("accumulate", [1, 2])
def test_rows_give_the_losses_and_weights_of_padded_passes(tune, accumulate):
    padded, packed = build(), build()
    first = tune("padded", padded, feed(padded, accumulate=accumulate))
    second = tune("packed", packed, feed(packed, questions=1, accumulate=accumulate))
    assert_same_losses(first, second)
    assert_same_way(padded, packed)
    assert first.padding_fraction > 0.05
    assert second.padding_fraction == 0


def test_questions_that_share_give_the_losses_and_weights_of_separate_ones(tune):
    separate, shared = build(), build()
    first = tune("separate", separate, feed(separate, questions=3, rows_on=False))
    second = tune("shared", shared, feed(shared, questions=3))
    assert_same_losses(first, second)
    assert_same_way(separate, shared)


def test_the_check_leaves_no_trace_and_says_how_exact_rows_are(tune, notes, monkeypatch):
    checked, unchecked = build(dropout=0.2), build(dropout=0.2)
    output, lines = notes
    first = tune("checked", checked, feed(checked, questions=3), output=output)
    assert any(line.startswith("packing is exact") for line in lines)
    monkeypatch.setattr(PackingCheck, "on_train_start", lambda *_: None)
    second = tune("unchecked", unchecked, feed(unchecked, questions=3))
    assert first.losses == second.losses
    for one, other in zip(checked.parameters(), unchecked.parameters(), strict=True):
        assert torch.equal(one, other)


def mixing_attention(module, query, key, value, attention_mask, row_layout=None, **options):
    """Takes a row for one long sample, as attention that knows nothing of rows would."""
    whole = attention_mask if row_layout is None else None
    return sdpa_attention_forward(module, query, key, value, whole, **options)


@pytest.mark.parametrize("questions", [1, 3])
def test_rows_that_are_not_exact_are_switched_off_with_a_warning_that_says_by_how_much(
    tune, notes, monkeypatch, caplog, questions
):
    padded, broken = build(), build()
    first = tune("padded", padded, feed(padded, questions=questions, rows_on=False))
    monkeypatch.setattr(attention, "_attend", mixing_attention)
    output, lines = notes
    module = feed(broken, questions=questions)
    second = tune("broken", broken, module, output=output)
    assert not module.in_rows
    (warning,) = [line for line in lines if "switched off" in line]
    told = re.search(r"differ by (\S+) of their size .* 1e-03 is allowed", warning)
    assert told is not None
    assert float(told[1]) > 0.1
    assert "switched off" in caplog.text
    assert first.losses == second.losses
    assert_same_way(padded, broken)
    assert second.padding_fraction > 0


@pytest.mark.parametrize("questions", [1, 3])
def test_interrupted_in_the_middle_of_an_epoch_and_continued_equals_uninterrupted_bitwise(
    tune, output_in, tmp_path, questions
):
    whole, parts, continued = build(dropout=0.2), build(dropout=0.2), build(dropout=0.2)
    first = tune("whole", whole, feed(whole, questions=questions, accumulate=2))
    calls = []

    def stop_in_step_two(module, inputs):
        calls.append(1)
        if len(calls) == 5 + 3:  # the check's four samples and row come first
            signal.raise_signal(signal.SIGINT)

    parts.projector.register_forward_pre_hook(stop_in_step_two)
    with pytest.raises(KeyboardInterrupt):
        tune("parts", parts, feed(parts, questions=questions, accumulate=2))
    second = tune("parts", continued, feed(continued, questions=questions, accumulate=2))
    assert second.first_step == 2
    assert first.losses == second.losses
    for (name, one), other in zip(whole.named_parameters(), continued.parameters(), strict=True):
        assert torch.equal(one, other), name


def test_a_pass_in_which_nothing_could_mix_is_not_the_one_that_is_tried(tune, monkeypatch):
    """Of samples of 14, 17 and 20 tokens a budget of 34 lets those of 20 go alone, longest first in each window."""
    model = build()
    module = feed(model, questions=1, accumulate=2, token_budget=34)
    tried = []
    monkeypatch.setattr(
        PackingCheck,
        "on_train_start",
        lambda *_: tried.extend([module._plan().micro_batch(0), module.micro_batch_to_try()]),
    )
    tune("tried", model, module)
    first, chosen = tried
    assert (len(first.bundles), len(chosen.bundles)) == (1, 2)


def test_a_finished_run_has_nothing_left_to_try(tune):
    model = build()
    tune("done", model, feed(model, questions=3))
    again = tune("done", model, feed(model, questions=3))
    assert again.first_step == 6
