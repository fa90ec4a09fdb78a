"""One process of a training of several: started by test_ranks.py, it trains a tiny real model and writes what came out.

python rank_program.py FOLDER '{"strategy": "ddp", ...}'        with RANK, WORLD_SIZE, ... in the environment
"""

import json
import os
import sys
from pathlib import Path

import torch

from velm_train.core.batch import IGNORE_INDEX, Batch, VisionEvidence
from velm_train.core.progress import SilentProgress
from velm_train.core.ranks import Rank
from velm_train.models.build import assemble_embedded
from velm_train.models.embedded.vision import LEVEL_DIM, SOURCE_DIMS, TwoTowers, VisionSettings
from velm_train.models.look_twice.adapter import LookTwiceSettings
from velm_train.models.lora import LoraSettings
from velm_train.training.datamodule import SampleDataModule
from velm_train.training.engine import Engine
from velm_train.training.fit import RunOutput, fit_adapter
from velm_train.training.optimiser import Optimisation
from velm_train.training.preflight import MemorySettings
from velm_train.training.samplers import SampleFacts

NUM_TOKENS, NUM_SAMPLES = 16, 7


def no_towers(device):
    raise AssertionError(f"training runs on cached evidence; nothing may load the towers on {device}")


def build(*, dtype: torch.dtype, dropout: float):
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415  # behind the package, which mends torchvision's import

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
        language_model=LlamaForCausalLM(config).to(dtype).eval(),
        language_model_name="tiny",
        language_model_identity="tiny",
        look_twice=LookTwiceSettings(source="fused", dim=16),
        lora=LoraSettings(r=2, alpha=4.0, dropout=dropout),
        seed=0,
    )


def evidence(indices) -> VisionEvidence:
    rngs = [torch.Generator().manual_seed(i) for i in indices]
    n = len(rngs)
    final = [torch.randn(NUM_TOKENS, sum(SOURCE_DIMS), generator=rng) for rng in rngs]
    levels = [torch.randn(1, NUM_TOKENS, LEVEL_DIM, generator=rng) for rng in rngs]
    return VisionEvidence(
        final=torch.stack(final) if n else torch.zeros(0, NUM_TOKENS, sum(SOURCE_DIMS)),
        levels=torch.stack(levels, dim=1) if n else torch.zeros(1, 0, NUM_TOKENS, LEVEL_DIM),
        grid_hw=torch.tensor([[4, 4]] * n, dtype=torch.long).reshape(n, 2),
        view_index=torch.arange(n),
        is_global=torch.ones(n, dtype=torch.bool),
        valid=torch.ones(n, NUM_TOKENS, dtype=torch.bool),
        map_scores=torch.stack([2 * torch.rand(NUM_TOKENS, generator=rng) for rng in rngs])
        if n
        else torch.zeros(0, NUM_TOKENS),
    )


class Samples:
    """Seven samples with answers of 1 to 3 tokens; every third may be text alone."""

    def __init__(self, model, *, text_only: bool, nan_at: int | None) -> None:
        self.visual = [model.image_token_id] * model.num_first_look + [model.inspect_token_id] * model.num_second_look
        self.shown = [not (text_only and i % 3 == 0) for i in range(NUM_SAMPLES)]
        self.nan_at = nan_at
        self.calls = 0

    def row(self, i: int) -> list[int]:
        return [1, *(self.visual if self.shown[i] else []), 5, *range(6, 6 + i), *self.answer(i)]

    def answer(self, i: int) -> list[int]:
        return [*[9 + i] * (i % 3), 3]

    def collate(self, indices, visits=None) -> Batch:
        del visits
        self.calls += 1
        rows = [self.row(i) for i in indices]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [2] * (longest - len(row)) for row in rows])
        attention = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        labels = torch.full_like(ids, IGNORE_INDEX)
        for number, i in enumerate(indices):
            end = len(rows[number])
            begin = end - len(self.answer(i))
            labels[number, begin:end] = ids[number, begin:end]
        seen = [i for i in indices if self.shown[i]]
        found = evidence(seen)
        if self.nan_at is not None and self.calls > self.nan_at:
            found.final.fill_(float("nan"))
        return Batch(
            input_ids=ids,
            attention_mask=attention,
            labels=labels,
            evidence=found,
            view_sample=torch.tensor([number for number, i in enumerate(indices) if self.shown[i]], dtype=torch.long),
            view_anomalous=torch.tensor([float(i % 2) for i in seen]),
            sample_ids=tuple(map(str, indices)),
        )

    def module(self, *, batch_size: int, accumulate: int) -> SampleDataModule:
        facts = [
            SampleFacts(
                sample_id=f"sample {i}",
                category="nut",
                false_alarm=False,
                answer_type=str(i),
                num_tokens=len(self.row(i)),
                num_supervised=len(self.answer(i)),
                num_scored_views=int(self.shown[i]),
            )
            for i in range(NUM_SAMPLES)
        ]
        return SampleDataModule(facts, collate=self.collate, batch_size=batch_size, accumulate=accumulate, seed=0)


def rank_of_environment() -> Rank:
    if "RANK" not in os.environ:
        return Rank(number=0, world_size=1)
    number, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    port = int(os.environ["MASTER_PORT"])
    return Rank(number=number, world_size=world_size, local_number=number, num_local=world_size, port=port)


def main() -> None:
    folder, options = Path(sys.argv[1]), json.loads(sys.argv[2])
    torch.set_num_threads(1)
    rank = rank_of_environment()
    model = build(dtype=getattr(torch, options["dtype"]), dropout=options["dropout"])
    samples = Samples(
        model,
        text_only=options["text_only"],
        nan_at=options["nan_at"] if rank.number == rank.world_size - 1 else None,
    )
    trained = {}
    summary = fit_adapter(
        model,
        samples.module(batch_size=2, accumulate=options["accumulate"]),
        optimisation=Optimisation(
            max_steps=options["steps"],
            learning_rates={"lora": 1e-2, "projector": 1e-3, "look_twice": 1e-3},
            weight_decay=0.01,
            gradient_clip=0.5,
            kind=options["optimiser"],
        ),
        engine=Engine(
            accelerator=options["accelerator"],
            devices=rank.world_size,
            strategy=options["strategy"],
            rank=rank,
            precision=options["precision"],
            memory=MemorySettings(checkpointing=options["checkpointing"]),
        ),
        output=RunOutput(
            folder=folder,
            checkpoint_every=options["checkpoint_every"],
            log_every=1,
            loggers=[],
            progress=SilentProgress(),
            title="tune",
        ),
        bce_weight=0.5,
        on_trained=trained.update,
    )
    if rank.is_first:
        weights = trained or {name: p.detach().cpu() for name, p in model.named_parameters() if p.requires_grad}
        torch.save({"weights": weights, "first_step": summary.first_step}, folder / "out.pt")


if __name__ == "__main__":
    main()
