"""A tiny real model with the protocol, and data for it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from velm_train.core.batch import IGNORE_INDEX, Batch, VisionEvidence
from velm_train.core.progress import SilentProgress
from velm_train.models.protocol import TrainingOutput
from velm_train.training.balance import Balance
from velm_train.training.datamodule import SampleDataModule
from velm_train.training.fit import Engine, RunOutput
from velm_train.training.samplers import SampleFacts

VOCABULARY_SIZE, WIDTH, FEATURES = 11, 6, 5


def make_evidence(num_views: int, *, seed: int, num_tokens: int = 6) -> VisionEvidence:
    rng = torch.Generator().manual_seed(seed)
    return VisionEvidence(
        final=torch.randn(num_views, num_tokens, FEATURES, generator=rng),
        levels=torch.randn(1, num_views, num_tokens, 3, generator=rng),
        grid_hw=torch.tensor([[2, 3]] * num_views),
        view_index=torch.arange(num_views),
        is_global=torch.ones(num_views, dtype=torch.bool),
        valid=torch.ones(num_views, num_tokens, dtype=torch.bool),
        map_scores=torch.zeros(num_views, num_tokens),
    )


class TinyModel(nn.Module):
    """Frozen embedding, frozen tower with batch norm, and one learning part of each group."""

    identity = "tiny"
    evidence_identity = "tiny"
    feature_dtype = torch.float32
    num_second_look = 0
    max_context = 64

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(VOCABULARY_SIZE, WIDTH)
        self.tower = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        self.block = nn.ModuleDict(
            {"base": nn.Linear(WIDTH, WIDTH), "lora": nn.Linear(WIDTH, WIDTH), "dropout": nn.Dropout(0.3)}
        )
        self.projector = nn.Linear(FEATURES, WIDTH)
        self.look_twice = nn.Linear(FEATURES, 1)
        for part in (self.embedding, self.tower, self.block["base"]):
            part.requires_grad_(False)
        self.eval()
        self.on_step: Callable[[], None] = lambda: None

    def training_output(self, batch: Batch) -> TrainingOutput:
        self.on_step()
        views = self.projector(batch.evidence.final).mean(dim=1)  # (I, D)
        context = torch.zeros(len(batch.input_ids), WIDTH).index_add(0, batch.view_sample, views.float())
        hidden = self.embedding(batch.input_ids) + context[:, None]
        hidden = self.block["base"](hidden) + self.block["lora"](self.block["dropout"](hidden))
        logits = hidden[:, :-1] @ self.embedding.weight.T
        targets = batch.labels[:, 1:]
        loss_sum = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX, reduction="sum")
        return TrainingOutput(
            language_loss_sum=loss_sum,
            num_supervised=int((targets != IGNORE_INDEX).sum()),
            image_logits=self.look_twice(batch.evidence.final.mean(dim=1))[:, 0],
        )

    def encode_views(self, views: Sequence[object]) -> VisionEvidence:
        return make_evidence(len(views), seed=0)

    def option_log_likelihoods(self, batch: Batch, *, options: object) -> list[torch.Tensor]:
        del batch, options
        raise AssertionError("training never asks for answers")

    def trainable_groups(self) -> Mapping[str, list[nn.Parameter]]:
        return {
            "lora": list(self.block["lora"].parameters()),
            "projector": list(self.projector.parameters()),
            "look_twice": list(self.look_twice.parameters()),
        }

    @property
    def decoder(self) -> nn.Module:
        decoder = nn.Module()
        decoder.layers = nn.ModuleList([self.block])
        decoder.config = SimpleNamespace(
            hidden_size=WIDTH, intermediate_size=8, num_attention_heads=2, head_dim=4, vocab_size=VOCABULARY_SIZE
        )
        return decoder

    def evidence_shape(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        del size_hw
        return 1, 6

    def view_token_ids(self, size_hw: tuple[int, int]) -> tuple[int, ...]:
        del size_hw
        return ()

    def merged_for_inference(self) -> AbstractContextManager[None]:
        return nullcontext()

    def first_look_only(self) -> AbstractContextManager[None]:
        return nullcontext()

    def save_adapter(self, folder: Path) -> None: ...

    def load_adapter(self, folder: Path) -> None: ...


class TinyData:
    """Twelve samples of 4 to 9 tokens, each with one view; the answer is the last 1 to 3 tokens."""

    def __init__(self, num_samples: int = 12) -> None:
        rng = torch.Generator().manual_seed(7)
        self.lengths = [4 + i % 6 for i in range(num_samples)]
        self.answers = [1 + i % 3 for i in range(num_samples)]
        self.ids = [torch.randint(VOCABULARY_SIZE, (n,), generator=rng) for n in self.lengths]
        self.evidence = make_evidence(num_samples, seed=3)
        self.anomalous = [(0.0, 1.0, float("nan"))[i % 3] for i in range(num_samples)]
        self.facts = [
            SampleFacts(
                sample_id=f"sample {i}",
                category=("nut", "bolt")[i % 2],
                false_alarm=i % 3 == 0,
                answer_type="abc"[min(2, i % 5)],
                num_tokens=self.lengths[i],
                num_supervised=self.answers[i],
                num_scored_views=int(i % 3 < 2),
            )
            for i in range(num_samples)
        ]

    def collate(self, indices: Sequence[int], visits: Sequence[int] | None = None) -> Batch:
        del visits
        longest = max(self.lengths[i] for i in indices)
        ids = torch.zeros(len(indices), longest, dtype=torch.long)
        attention = torch.zeros_like(ids)
        labels = torch.full_like(ids, IGNORE_INDEX)
        for row, i in enumerate(indices):
            n = self.lengths[i]
            ids[row, :n], attention[row, :n] = self.ids[i], 1
            labels[row, n - self.answers[i] : n] = self.ids[i][n - self.answers[i] :]
        chosen = torch.tensor(list(indices))
        evidence = self.evidence
        return Batch(
            input_ids=ids,
            attention_mask=attention,
            labels=labels,
            evidence=VisionEvidence(
                final=evidence.final[chosen],
                levels=evidence.levels[:, chosen],
                grid_hw=evidence.grid_hw[chosen],
                view_index=torch.arange(len(indices)),
                is_global=evidence.is_global[chosen],
                valid=evidence.valid[chosen],
                map_scores=evidence.map_scores[chosen],
            ),
            view_sample=torch.arange(len(indices)),
            view_anomalous=torch.tensor([self.anomalous[i] for i in indices]),
            sample_ids=tuple(str(i) for i in indices),
        )

    def module(
        self, *, batch_size: int = 2, accumulate: int = 1, seed: int = 0, balance: Balance = "none"
    ) -> SampleDataModule:
        return SampleDataModule(
            self.facts,
            collate=self.collate,
            batch_size=batch_size,
            accumulate=accumulate,
            balance=balance,
            seed=seed,
        )


@pytest.fixture
def tiny_model() -> Callable[[], TinyModel]:
    return TinyModel


@pytest.fixture
def tiny_data() -> TinyData:
    return TinyData()


@pytest.fixture
def evidence_of() -> Callable[..., VisionEvidence]:
    return make_evidence


@pytest.fixture
def cpu() -> Engine:
    return Engine(accelerator="cpu")


@pytest.fixture
def output_in() -> Callable[[Path], RunOutput]:
    def make(folder: Path) -> RunOutput:
        return RunOutput(
            folder=folder, checkpoint_every=100, log_every=1, loggers=[], progress=SilentProgress(), title="tune"
        )

    return make
