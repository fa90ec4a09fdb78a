"""The alignment stage learns words from the detector's map."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from velm_train.core.batch import VisionEvidence
from velm_train.core.errors import DataError
from velm_train.models.protocol import LookTwiceOutput
from velm_train.training.alignment import (
    AlignmentLoss,
    AlignmentModule,
    make_vocabulary,
    token_words,
)
from velm_train.training.batches import AlignmentBatch, WindowedBatch
from velm_train.training.datamodule import SampleDataModule
from velm_train.training.fit import AlignmentParts, fit_alignment
from velm_train.training.optimiser import Optimisation
from velm_train.training.samplers import MicroBatchPlan, SampleFacts

TOKENS = {" good": [0], " crack": [1], " thread side": [2, 3]}


@pytest.fixture
def vocabulary():
    embedding = nn.Embedding(5, 4)
    embedding.weight.data = torch.randn(5, 4, generator=torch.Generator().manual_seed(5))
    made = make_vocabulary(["thread side", "crack", "crack"], tokenize=TOKENS.__getitem__, embedding=embedding)
    return made, embedding.weight.detach()


class LookTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.score = nn.Linear(6, 1)

    def forward(self, evidence, projected):
        weights = evidence.map_scores + 1e-3
        pooled = (projected * (weights / weights.sum(1, keepdim=True))[..., None]).sum(1, keepdim=True)
        suspicious = (evidence.final * evidence.map_scores[..., None]).mean(1)
        return LookTwiceOutput(
            token_scores=evidence.map_scores.clamp(0, 1),
            second_look=pooled.expand(-1, 2, -1),
            image_logits=self.score(suspicious)[:, 0],
        )


class Views:
    """Two kinds of defect, each a direction of its own on two of six tokens; every third view is normal."""

    def __init__(self, num_views=30):
        rng = torch.Generator().manual_seed(0)
        self.word = torch.tensor([i % 3 for i in range(num_views)])
        self.final = 0.3 * torch.randn(num_views, 6, 6, generator=rng)
        self.map_scores = 0.5 * torch.rand(num_views, 6, generator=rng)
        for i, word in enumerate(self.word.tolist()):
            if word:
                self.final[i, 1:3, word] += 3.0
                self.map_scores[i, 1:3] += 1.0

    def batch(self, indices, visits=None):
        del visits
        chosen = torch.tensor(list(indices))
        n = len(chosen)
        return AlignmentBatch(
            evidence=VisionEvidence(
                final=self.final[chosen],
                levels=torch.zeros(1, n, 6, 1),
                grid_hw=torch.tensor([[2, 3]] * n),
                view_index=torch.arange(n),
                is_global=torch.ones(n, dtype=torch.bool),
                valid=torch.ones(n, 6, dtype=torch.bool),
                map_scores=self.map_scores[chosen],
            ),
            view_word=self.word[chosen],
            view_anomalous=(self.word[chosen] > 0).float(),
        )

    def module(self, batch_size=10):
        facts = [
            SampleFacts(
                sample_id="s",
                category="nut",
                false_alarm=False,
                answer_type=str(w),
                num_tokens=6,
                num_supervised=6,
                num_scored_views=1,
            )
            for w in self.word.tolist()
        ]
        return SampleDataModule(facts, collate=self.batch, batch_size=batch_size, balance="type", seed=0)


def test_words_of_several_tokens_are_the_mean_of_their_embeddings(vocabulary):
    made, table = vocabulary
    assert made.words == ("good", "crack", "thread side")
    expected = torch.stack([table[0], table[1], (table[2] + table[3]) / 2])
    assert torch.allclose(made.vectors, expected)
    assert made.index("thread side") == 2
    with pytest.raises(DataError, match="'hole' is not a word"):
        made.index("hole")


def test_targets_come_from_the_map_of_defective_views_only():
    batch = Views().batch([1, 0, 2])
    evidence = replace(
        batch.evidence,
        map_scores=torch.tensor([[0.0, 1.0, 1.01, 5.0, 0.0, 0.0], [9.0] * 6, [9.0] * 6]),
        valid=torch.tensor([[True] * 5 + [False], [True] * 6, [True] * 6]),
    )
    words = token_words(replace(batch, evidence=evidence, view_word=torch.tensor([1, 0, -1])))
    assert words.tolist() == [[0, 0, 1, 1, 0, -1], [0] * 6, [-1] * 6]


def test_separable_views_are_learned(vocabulary, cpu, output_in, tmp_path):
    made, _ = vocabulary
    torch.manual_seed(0)
    projector, look_twice = nn.Linear(6, 4), LookTwice()
    summary = fit_alignment(
        AlignmentParts(projector=projector, look_twice=look_twice, vocabulary=made),
        Views().module(),
        weights=AlignmentLoss(temperature=0.2, bce_weight=1.0),
        optimisation=Optimisation(max_steps=80, learning_rates={"projector": 3e-2, "look_twice": 2e-1}),
        engine=cpu,
        output=output_in(tmp_path),
    )
    assert summary.losses[-1] < 0.4 * summary.losses[0]
    batch = Views().batch(range(30))
    with torch.no_grad():
        tokens = projector(batch.evidence.final)
        similarity = nn.functional.normalize(tokens, dim=-1) @ nn.functional.normalize(made.vectors, dim=-1).T
        logits = look_twice(batch.evidence, tokens).image_logits
    correct = (similarity.argmax(-1) == token_words(batch)).float()
    assert correct.mean() > 0.95
    assert ((logits > 0) == (batch.view_anomalous == 1)).float().mean() > 0.9


def test_loss_is_the_weighted_sum_of_its_terms(vocabulary):
    made, _ = vocabulary
    torch.manual_seed(0)
    weights = AlignmentLoss(second_look_weight=0.5, bce_weight=0.25)
    module = AlignmentModule(
        nn.Linear(6, 4),
        LookTwice(),
        vocabulary=made,
        weights=weights,
        optimisation=Optimisation(max_steps=1, learning_rates={"projector": 1.0, "look_twice": 1.0}),
    )
    terms = module.training_step(windowed(Views().batch(range(6))), 0)
    expected = terms["token"] + 0.5 * terms["second_look"] + 0.25 * terms["image"]
    assert terms["loss"].item() == pytest.approx(expected.item())
    assert not any(name.endswith("_words") for name in module.state_dict())


def windowed(batch):
    plan = MicroBatchPlan(
        index=0,
        samples=(0,),
        bundles=(),
        visits=(0,),
        sample_ids=("s",),
        num_useful_tokens=1,
        num_padded_tokens=1,
        squared_lengths=1,
        num_supervised=1,
        window_supervised=1,
        window_scored_views=1,
    )
    return WindowedBatch(batch=batch, plan=plan)


def test_views_without_a_word_do_not_move_the_projector(vocabulary):
    made, _ = vocabulary
    projector = nn.Linear(6, 4)
    module = AlignmentModule(
        projector,
        None,
        vocabulary=made,
        weights=AlignmentLoss(),
        optimisation=Optimisation(max_steps=1, learning_rates={"projector": 1.0}),
    )
    batch = replace(Views().batch(range(6)), view_word=torch.full((6,), -1))
    module.training_step(windowed(batch), 0)["loss"].backward()
    assert torch.equal(projector.weight.grad, torch.zeros_like(projector.weight))
