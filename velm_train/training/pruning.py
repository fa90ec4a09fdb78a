"""The loss of a run so far goes in; the run ends early if other runs of its sweep had done better by then."""

import pytorch_lightning as pl
from pytorch_lightning.utilities.types import STEP_OUTPUT

from velm_train.core.pruning import PruneRule, TrialPruned
from velm_train.training.batches import WindowedBatch, ends_window
from velm_train.training.callbacks import LossHistory
from velm_train.training.validation import MeasureValidation

LOSS = "loss/total"


class PruneByLoss(pl.Callback):
    """Tells the rule the validation loss where there is one, else the mean training loss since it was last told.

    Every rank has this callback, and the first one decides. Must stand after `LossHistory` and `MeasureValidation`.
    """

    def __init__(
        self, rule: PruneRule, *, history: LossHistory, validation: MeasureValidation | None, every: int
    ) -> None:
        """Remembers whom to tell.

        Args:
            rule: decides.
            history: whose training losses are told without a validation.
            validation: whose losses are told, as they come.
            every: optimiser steps between training losses.
        """
        self._rule = rule
        self._history = history
        self._validation = validation
        self._every = every

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: STEP_OUTPUT,
        batch: WindowedBatch,
        batch_idx: int,
    ) -> None:
        """Tells the loss if there is a new one; after the last step nothing is left to save.

        Raises:
            TrialPruned: if the rule says so.
        """
        del pl_module, outputs, batch_idx
        step = trainer.global_step
        loss = self._loss_at(step) if ends_window(trainer, batch) else None
        if loss is None:
            return
        ends = trainer.is_global_zero and self._rule.prunes(loss, step=step, max_steps=trainer.max_steps)
        if trainer.strategy.reduce_boolean_decision(ends, all=False) and step < trainer.max_steps:
            raise TrialPruned(
                f"pruned at step {step} of {trainer.max_steps}: other runs of the sweep had a lower loss by then"
            )

    def _loss_at(self, step: int) -> float | None:
        if self._validation is not None:
            return self._validation.loss_at(step)
        if step % self._every:
            return None
        losses = [row[LOSS] for row in self._history.rows[-self._every :]]
        return sum(losses) / len(losses)
