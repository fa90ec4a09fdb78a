"""Sample facts and a collate function go in; the micro-batches of every optimiser step come out, resumable exactly."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from velm_train.core.errors import ArtifactError
from velm_train.core.hashing import sha256_json
from velm_train.training.batches import TrainingBatch, WindowedBatch
from velm_train.training.samplers import Balance, SampleFacts, SamplePlan


class _MicroBatches(Dataset[WindowedBatch]):
    """Micro-batches by number; features are read when one is asked for."""

    def __init__(self, plan: SamplePlan, collate: Callable[[Sequence[int]], TrainingBatch]) -> None:
        self._plan = plan
        self._collate = collate

    def __getitem__(self, index: int) -> WindowedBatch:
        plan = self._plan.micro_batch(index)
        return WindowedBatch(batch=self._collate(plan.samples), plan=plan)


class _RemainingIndices(Sampler[int]):
    """Counts from where an earlier run stopped.

    The length is that of the whole run: Lightning adds the batches already done to those it fetches.
    """

    def __init__(self, *, start: int, stop: int) -> None:
        self._start = start
        self._stop = stop

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._start, self._stop))

    def __len__(self) -> int:
        return self._stop


class SampleDataModule(pl.LightningDataModule):
    """Feeds encoded samples of either training stage; one Lightning epoch is the whole run."""

    def __init__(
        self,
        facts: Sequence[SampleFacts],
        *,
        collate: Callable[[Sequence[int]], TrainingBatch],
        batch_size: int,
        accumulate: int = 1,
        balance: Balance = "none",
        token_budget: int = 0,
        bucket_size: int = 0,
        seed: int,
        num_workers: int = 0,
    ) -> None:
        """Remembers what to feed; nothing is read yet.

        Args:
            facts: one entry a sample.
            collate: sample indices -> batch; looks features up when called.
            batch_size: samples per forward pass, 1 or more.
            accumulate: forward passes per optimiser step, 1 or more.
            balance: equal shares of every answer type, category or gate outcome, or "none" for every sample once an
                epoch.
            token_budget: tokens per forward pass, padding included; 0 for batches of `batch_size` samples.
            bucket_size: samples that are sorted by length together; 0 for none.
            seed: of the sample order.
            num_workers: 0 as long as features are memory-mapped; more only pays where collation itself is slow.
        """
        super().__init__()
        self.accumulate = accumulate
        self.seed = seed
        self._facts = facts
        self._collate = collate
        self._batch_size = batch_size
        self._balance: Balance = balance
        self._token_budget = token_budget
        self._bucket_size = bucket_size
        self._num_workers = num_workers
        self._steps_done = 0

    def train_dataloader(self) -> DataLoader[WindowedBatch]:
        """Returns this rank's micro-batches from the step at which the run continues to the last."""
        assert self.trainer is not None
        stop = self.trainer.max_steps * self.accumulate
        return DataLoader(
            _MicroBatches(self._plan(), self._collate),
            batch_size=None,
            sampler=_RemainingIndices(start=self._steps_done * self.accumulate, stop=stop),
            num_workers=self._num_workers,
        )

    def transfer_batch_to_device(
        self, batch: WindowedBatch, device: torch.device, dataloader_idx: int
    ) -> WindowedBatch:
        """Moves the tensors; Lightning's own mover refuses frozen dataclasses."""
        del dataloader_idx
        return WindowedBatch(batch=batch.batch.to(device), plan=batch.plan)

    def state_dict(self) -> dict[str, Any]:
        """Returns where the next optimiser step begins, and a hash of the data and the order."""
        assert self.trainer is not None
        steps = self.trainer.global_step
        epoch, position = self._plan().epoch_position(steps)
        return {"steps_done": steps, "epoch": epoch, "position": position, "fingerprint": self._fingerprint()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken.

        Raises:
            ArtifactError: if the samples, the batch size or the order differ from those of the checkpoint.
        """
        if state_dict["fingerprint"] != self._fingerprint():
            raise ArtifactError(
                "last.ckpt was written with other samples, batch size, ranks, balance or seed than this run; "
                "delete the checkpoint to start anew, or restore the old settings to continue"
            )
        self._steps_done = int(state_dict["steps_done"])

    def _plan(self) -> SamplePlan:
        assert self.trainer is not None
        return SamplePlan(
            self._facts,
            batch_size=self._batch_size,
            accumulate=self.accumulate,
            balance=self._balance,
            token_budget=self._token_budget,
            bucket_size=self._bucket_size,
            seed=self.seed,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
        )

    def _fingerprint(self) -> str:
        assert self.trainer is not None
        limits = [self._batch_size, self._token_budget, self._bucket_size]
        order = [*limits, self.accumulate, self._balance, self.seed, self.trainer.world_size]
        return sha256_json({"facts": list(self._facts), "order": order})
