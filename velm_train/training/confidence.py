"""The model in training goes in at the end of an epoch; how sure it is of every right answer comes out."""

import math

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import STEP_OUTPUT

from velm_train.core.batch import Batch
from velm_train.models.modes import evaluating
from velm_train.models.protocol import VisionLanguageModel
from velm_train.training.batches import WindowedBatch, ends_window
from velm_train.training.datamodule import SampleDataModule
from velm_train.training.hard_examples import Confidence


class MeasureConfidence(pl.Callback):
    """Measures every training sample one step before the order of the next epoch is needed.

    When a step ends, the first pass of the next one has been fetched already. What the one after it may reach for the
    first time is ordered by what the model says now; the same steps measure in a run that is resumed.
    """

    def __init__(self, datamodule: SampleDataModule) -> None:
        """Remembers what to measure, and who keeps it."""
        self._datamodule = datamodule

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: STEP_OUTPUT,
        batch: WindowedBatch,
        batch_idx: int,
    ) -> None:
        """Measures if the step after the next may begin another epoch."""
        del outputs, batch_idx
        if not ends_window(trainer, batch):
            return
        epochs = self._datamodule.epochs_begun_after(trainer.global_step)
        if epochs and trainer.global_step + 1 < trainer.max_steps:
            assert self._datamodule.hard is not None
            self._datamodule.hard.remember(epochs, self._measured(trainer, pl_module))

    def _measured(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Confidence:
        model = pl_module.model
        assert isinstance(model, torch.nn.Module)
        assert isinstance(model, VisionLanguageModel)
        values = []
        with evaluating(model), torch.no_grad(), trainer.precision_plugin.val_step_context():
            for index in range(self._datamodule.num_samples):
                batch = self._datamodule.single(index).to(pl_module.device)
                assert isinstance(batch, Batch)
                output = model.training_output(batch)
                values.append(math.exp(-float(output.language_loss_sum) / max(1, output.num_supervised)))
        # Ranks may round otherwise; one order serves them all.
        shared: Confidence = trainer.strategy.broadcast(np.asarray(values, dtype=np.float64))
        return shared
