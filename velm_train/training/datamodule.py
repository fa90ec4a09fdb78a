"""Sample facts and a collate function go in; the micro-batches of every optimiser step come out, resumable exactly."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from velm_train.core.batch import Batch
from velm_train.core.errors import ArtifactError
from velm_train.core.hashing import sha256_json
from velm_train.core.ranks import Rank
from velm_train.training.balance import Balance
from velm_train.training.batches import TrainingBatch, WindowedBatch
from velm_train.training.hard_examples import HardExamples
from velm_train.training.samplers import MicroBatchPlan, SampleFacts, SamplePlan

Collate = Callable[[Sequence[int], Sequence[int] | None], TrainingBatch]
"""Sample indices, and the visit each is collated for or None for samples as they are -> their batch."""

_NEXT_FEW = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """How forward passes are computed as one row without padding.

    Attributes:
        collate: plan of a pass -> its batch with bundles.
        questions_per_image: most samples of a bundle; 1 for rows in which nothing is shared.
    """

    collate: Callable[[MicroBatchPlan], Batch]
    questions_per_image: int = 1


class _MicroBatches(Dataset[WindowedBatch]):
    """Micro-batches by number; features are read when one is asked for."""

    def __init__(self, plan: SamplePlan, read: Callable[[MicroBatchPlan], WindowedBatch]) -> None:
        self._plan = plan
        self._read = read

    def __getitem__(self, index: int) -> WindowedBatch:
        return self._read(self._plan.micro_batch(index))


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
    """Feeds encoded samples of either training stage; one Lightning epoch is the whole run.

    Attributes:
        in_rows: whether passes are laid out as rows now; set to False, they are padded from the next one on.
    """

    def __init__(
        self,
        facts: Sequence[SampleFacts],
        *,
        collate: Collate,
        batch_size: int,
        accumulate: int = 1,
        balance: Balance = "none",
        token_budget: int = 0,
        bucket_size: int = 0,
        seed: int,
        hard_share: float = 0.5,
        rows: Rows | None = None,
    ) -> None:
        """Remembers what to feed; nothing is read yet.

        Args:
            facts: one entry a sample.
            collate: sample indices and visits -> batch; looks features up when called.
            batch_size: samples per forward pass, 1 or more.
            accumulate: forward passes per optimiser step, 1 or more.
            balance: equal shares of every answer type, category or gate outcome, "none" for every sample once an
                epoch, or "hard" for more of those that the model is unsure of.
            token_budget: tokens per forward pass, padding included; 0 for batches of `batch_size` samples.
            bucket_size: samples that are sorted by length together; 0 for none.
            seed: of the sample order.
            hard_share: of an epoch's visits that balance "hard" draws by hardness, 0 to 1.
            rows: how passes are laid out as rows without padding; None for padded batches.
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
        self._steps_done = 0
        self._watched: SamplePlan | None = None
        self.hard = HardExamples(share=hard_share) if balance == "hard" else None
        self._rows = rows
        self.in_rows = rows is not None

    def train_dataloader(self) -> DataLoader[WindowedBatch]:
        """Returns this rank's micro-batches from the step at which the run continues to the last."""
        assert self.trainer is not None
        stop = self.trainer.max_steps * self.accumulate
        return DataLoader(
            _MicroBatches(self._plan(), self._read),
            batch_size=None,
            sampler=_RemainingIndices(start=self._steps_done * self.accumulate, stop=stop),
            # Features are memory-mapped: a worker would only copy them, and not learn what is decided on the way.
            num_workers=0,
        )

    def largest_micro_batch(self) -> MicroBatchPlan | None:
        """Returns this rank's forward pass of the most tokens, padding included, of those still to come.

        What balance "hard" will draw is not known yet; every sample once an epoch stands for it.
        """
        assert self.trainer is not None
        plan = self._plan("none" if self._balance == "hard" else self._balance)
        stop = self.trainer.max_steps * self.accumulate
        left = (plan.micro_batch(index) for index in range(self.trainer.global_step * self.accumulate, stop))
        return max(left, key=lambda passed: (passed.num_padded_tokens, passed.num_supervised), default=None)

    def load(self, plan: MicroBatchPlan, *, device: torch.device) -> WindowedBatch:
        """Returns one micro-batch on a device, apart from the stream."""
        return self.transfer_batch_to_device(self._read(plan), device, 0)

    def micro_batch_to_try(self) -> MicroBatchPlan | None:
        """Returns this rank's first forward pass in which samples could mix, of the next few; None if none is left.

        That is one of several bundles, of which one holds several samples if any does.
        """
        assert self.trainer is not None
        plan, start = self._plan(), self.trainer.global_step * self.accumulate
        stop = min(start + _NEXT_FEW, self.trainer.max_steps * self.accumulate)

        def ways_to_mix(passed: MicroBatchPlan) -> int:
            return (len(passed.bundles) > 1) + any(bundle.num_samples > 1 for bundle in passed.bundles)

        return max((plan.micro_batch(index) for index in range(start, stop)), key=ways_to_mix, default=None)

    def side_by_side(self, plan: MicroBatchPlan) -> Iterator[TrainingBatch]:
        """Yields each sample of a pass as a batch of its own, which needs no padding and shares nothing."""
        for sample, visit in zip(plan.samples, plan.visits, strict=True):
            yield self._collate([sample], [visit])

    def _read(self, plan: MicroBatchPlan) -> WindowedBatch:
        if self._rows is None:
            return WindowedBatch(batch=self._collate(plan.samples, plan.visits), plan=plan)
        if self.in_rows:
            return WindowedBatch(batch=self._rows.collate(plan), plan=plan)
        padded = self._collate(plan.samples, plan.visits)
        assert isinstance(padded, Batch)
        plan = dataclasses.replace(plan, num_padded_tokens=padded.input_ids.numel())
        return WindowedBatch(batch=padded, plan=plan)

    @property
    def num_samples(self) -> int:
        """Number of training samples."""
        return len(self._facts)

    def single(self, index: int) -> TrainingBatch:
        """Returns one sample as it is, whatever is drawn anew at its visits."""
        return self._collate([index], None)

    def epochs_begun_after(self, step: int) -> list[int]:
        """Returns the epochs that no optimiser step up to `step` draws from, and the one after it may."""
        if self._watched is None:
            self._watched = self._plan()
        reached, next_ones = self._watched.epochs_in_reach(step), self._watched.epochs_in_reach(step + 1)
        return [epoch for epoch in next_ones if epoch >= reached.stop]

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
        state = {"steps_done": steps, "epoch": epoch, "position": position, "order": self._order()}
        return state if self.hard is None else {**state, "confidence": self.hard.state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken.

        Raises:
            ArtifactError: if the samples, the batch size or the order differ from those of the checkpoint.
        """
        there, here = state_dict["order"], self._order()
        differing = [
            f"{name}: {there.get(name)} there -> {value} here"
            for name, value in here.items()
            if there.get(name) != value
        ]
        if differing:
            raise ArtifactError(
                f"the checkpoint was written with other samples, or in another order: {'; '.join(differing)}; restore "
                "the old settings to continue, or use ckpt_path=none to start anew"
            )
        self._steps_done = int(state_dict["steps_done"])
        if self.hard is not None:
            self.hard.load_state(state_dict["confidence"])

    def _plan(self, balance: Balance | None = None) -> SamplePlan:
        assert self.trainer is not None
        return SamplePlan(
            self._facts,
            batch_size=self._batch_size,
            accumulate=self.accumulate,
            balance=balance or self._balance,
            token_budget=self._token_budget,
            bucket_size=self._bucket_size,
            seed=self.seed,
            rank=Rank(number=self.trainer.global_rank, world_size=self.trainer.world_size),
            hard=self.hard,
            bundle_size=None if self._rows is None else self._rows.questions_per_image,
        )

    def _order(self) -> dict[str, Any]:
        """Returns everything that decides which samples a step sees, in plain containers."""
        assert self.trainer is not None
        return {
            "samples": sha256_json(list(self._facts)),
            "batch_size": self._batch_size,
            "token_budget": self._token_budget,
            "bucket_size": self._bucket_size,
            "accumulate": self.accumulate,
            "balance": self._balance,
            "seed": self.seed,
            "processes": self.trainer.world_size,
            "hard_share": None if self.hard is None else self.hard.share,
            "questions_per_image": 1 if self._rows is None else self._rows.questions_per_image,
        }
