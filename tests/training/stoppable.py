"""A training of the tiny model as a process of its own, which waits for a signal in the step it is told.

    python stoppable.py FOLDER [STEP]

With RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT in the environment it is one of several. It ends with
status 75 if a preemption signal stopped it.
"""

import dataclasses
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from velm_train.core.batch import Batch
from velm_train.core.interrupts import Preempted, preemption_raised
from velm_train.core.progress import SilentProgress
from velm_train.core.ranks import Rank
from velm_train.training.datamodule import SampleDataModule
from velm_train.training.fit import Engine, RunOutput, fit_adapter
from velm_train.training.optimiser import Optimisation
from velm_train.training.starting import Keeping
from velm_train.training.validation import HeldOut
from velm_train.training.windows import PassLimits

ACCUMULATE = 2
NUM_TRAINED = 9
"""Of the samples; the others validate."""

spec = importlib.util.spec_from_file_location("tiny", Path(__file__).with_name("conftest.py"))
assert spec is not None
assert spec.loader is not None
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)


def engine_of(rank: int, world_size: int) -> Engine:
    if world_size == 1:
        return Engine(accelerator="cpu")
    place = Rank(
        number=rank,
        world_size=world_size,
        local_number=rank,
        num_local=world_size,
        address=os.environ["MASTER_ADDR"],
        port=int(os.environ["MASTER_PORT"]),
    )
    return Engine(accelerator="cpu", devices=world_size, strategy="ddp", rank=place)


def main(folder: Path, stop_at: int) -> None:
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    data, model = tiny.TinyData(), tiny.TinyModel()
    passes = []

    def wait_for_signal() -> None:
        if not torch.is_grad_enabled():  # hard samples and validation are measured
            return
        passes.append(1)
        if len(passes) == stop_at * ACCUMULATE:
            sys.stdout.write("waiting\n")
            sys.stdout.flush()
            sys.stdin.readline()

    def shown_as_visited(indices: Sequence[int], visits: Sequence[int] | None = None) -> Batch:
        batch = data.collate(indices)
        if visits is None:
            return batch
        light = torch.tensor([1.0 + 0.01 * (visit % 7) for visit in visits])[:, None, None]
        return dataclasses.replace(
            batch, evidence=dataclasses.replace(batch.evidence, final=batch.evidence.final * light)
        )

    model.on_step = wait_for_signal
    fit_adapter(
        model,
        SampleDataModule(
            data.facts[:NUM_TRAINED],
            collate=shown_as_visited,
            batch_size=2,
            accumulate=ACCUMULATE,
            balance="hard",
            seed=3,
        ),
        optimisation=Optimisation(
            max_steps=10,
            learning_rates={"lora": 1e-2, "projector": 2e-3, "look_twice": 5e-3},
            weight_decay=0.01,
            warmup_fraction=0.2,
        ),
        engine=engine_of(rank, world_size),
        output=RunOutput(
            folder=folder,
            checkpoint_every=100,
            log_every=1,
            loggers=[],
            progress=SilentProgress(),
            title="tune",
            keeping=Keeping(last=1, best=True),
        ),
        bce_weight=0.5,
        held_out=HeldOut(
            facts=data.facts[NUM_TRAINED:],
            collate=lambda indices, visits: data.collate([NUM_TRAINED + index for index in indices], visits),
            limits=PassLimits(batch_size=2, token_budget=0),
            every=3,
            seed=3,
        ),
    )
    torch.save(model.state_dict(), folder / f"weights-{rank}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    try:
        with preemption_raised():
            main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    except Preempted:
        sys.exit(75)
