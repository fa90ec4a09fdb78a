"""Samples held out of training go in; what the model in training makes of them, every few steps, comes out.

    validation loss = sum of their token losses / their supervised tokens

without dropout, augmentation and gradients. Nothing of it reaches training: no weight, no draw, no order.

Whoever wants the values gets them in three ways: `MeasureValidation.on_validation` is a list of functions of step and
value, called on every rank after each measurement; `trainer.callback_metrics["validation/loss"]` is the latest one;
history and loggers hold them beside the losses of training.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import STEP_OUTPUT

from velm_train.core.batch import Batch
from velm_train.core.seeding import derive_seed
from velm_train.models.modes import evaluating
from velm_train.models.protocol import VisionLanguageModel
from velm_train.training.batches import WindowedBatch, ends_window
from velm_train.training.callbacks import LossHistory
from velm_train.training.datamodule import Collate
from velm_train.training.divergence import stop_diverged
from velm_train.training.samplers import SampleFacts
from velm_train.training.windows import PassLimits

VALIDATION_LOSS = "validation/loss"

OnValidation = Callable[[int, float], None]
"""Called with the optimiser steps done and the validation loss."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
    """What validates training.

    Attributes:
        facts: one entry a sample, at least one.
        collate: their indices -> batch.
        limits: of each forward pass.
        every: optimiser steps between measurements, 1 or more; the last step is measured in any case.
        seed: of the run.
    """

    facts: Sequence[SampleFacts]
    collate: Collate
    limits: PassLimits
    every: int
    seed: int

    def passes(self) -> list[list[int]]:
        """Returns the samples of each forward pass, those of about one length together, the longest first."""
        lengths = [fact.num_tokens for fact in self.facts]
        result: list[list[int]] = []
        for index in sorted(range(len(lengths)), key=lambda one: (-lengths[one], one)):
            last = result[-1] if result else []
            if last and self.limits.fits(len(last) + 1, (len(last) + 1) * lengths[last[0]]):
                last.append(index)
            else:
                result.append([index])
        return result


class MeasureValidation(pl.Callback):
    """Measures the loss on held-out samples. Must stand after the `LossHistory`, and before what saves checkpoints.

    Attributes:
        values: (optimiser steps done, validation loss) of every measurement, those of a resumed run included.
        on_validation: called after each measurement, on every rank with the same value.
    """

    def __init__(self, held_out: HeldOut, *, history: LossHistory) -> None:
        """Remembers what to measure, and whose rows to add to."""
        self.values: list[tuple[int, float]] = []
        self.on_validation: list[OnValidation] = []
        self._held_out = held_out
        self._history = history

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: STEP_OUTPUT,
        batch: WindowedBatch,
        batch_idx: int,
    ) -> None:
        """Measures every n-th step and at the last."""
        del outputs, batch_idx
        step = trainer.global_step
        if not ends_window(trainer, batch) or (step % self._held_out.every and step != trainer.max_steps):
            return
        value = self._measured(trainer, pl_module)
        self.values.append((step, value))
        self._history.add(VALIDATION_LOSS, value)
        trainer.callback_metrics[VALIDATION_LOSS] = torch.tensor(value)
        for experiment in trainer.loggers:
            experiment.log_metrics({VALIDATION_LOSS: value}, step=step)
        for tell in self.on_validation:
            tell(step, value)

    def loss_at(self, step: int) -> float | None:
        """Returns what was measured after a step, or None."""
        return dict(self.values).get(step)

    def is_best(self, step: int) -> bool:
        """Returns whether what was measured after a step is lower than all before it."""
        value = self.loss_at(step)
        return value is not None and all(value < other for before, other in self.values if before < step)

    def state_dict(self) -> dict[str, Any]:
        """Returns the values for the checkpoint."""
        return {"values": [list(pair) for pair in self.values]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the values of an earlier run."""
        self.values = [(int(step), float(value)) for step, value in state_dict["values"]]

    def _measured(self, trainer: pl.Trainer, module: pl.LightningModule) -> float:
        """Returns the loss over all ranks, which share the passes.

        Every rank makes as many passes as any other, because sharded weights are gathered by all together; one that
        has none left repeats its first, and it counts for nothing.
        """
        model = module.model
        assert isinstance(model, torch.nn.Module)
        assert isinstance(model, VisionLanguageModel)
        passes, world_size = self._held_out.passes(), trainer.world_size
        sums = torch.zeros(2, dtype=torch.float64, device=module.device)
        devices = [module.device] if module.device.type == "cuda" else []
        with (
            torch.random.fork_rng(devices=devices),
            evaluating(model),
            torch.no_grad(),
            trainer.precision_plugin.val_step_context(),
        ):
            torch.manual_seed(derive_seed(self._held_out.seed, "validation"))
            for turn in range(0, len(passes), world_size):
                number = turn + trainer.global_rank
                counts = number < len(passes)
                batch = self._held_out.collate(passes[number if counts else 0], None).to(module.device)
                assert isinstance(batch, Batch)
                output = model.training_output(batch)
                if counts:
                    sums[0] += output.language_loss_sum.double()
                    sums[1] += output.num_supervised
        total: torch.Tensor = trainer.strategy.reduce(sums, reduce_op="sum")
        loss = float(total[0] / total[1].clamp(min=1))
        if not torch.isfinite(torch.tensor(loss)):
            step, folder = trainer.global_step - 1, trainer.default_root_dir
            stop_diverged("validation loss", value=loss, step=step, folder=folder)
        return loss
