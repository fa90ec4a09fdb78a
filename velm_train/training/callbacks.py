"""Lightning's hooks go in; seeds, progress and a loss history come out."""

import contextlib
import csv
import io
import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import STEP_OUTPUT

from velm_train.core.artifacts import write_atomic
from velm_train.core.progress import Advance, Progress
from velm_train.core.seeding import derive_seed
from velm_train.training.batches import WindowedBatch, ends_window
from velm_train.training.divergence import stop_diverged
from velm_train.training.sharded_blocks import MeasuringNorm, total_norm
from velm_train.training.throughput import ThroughputMonitor, describe_speed

HISTORY_NAME = "history.csv"


class SeedEveryBatch(pl.Callback):
    """Seeds dropout anew for every micro-batch, so that a resumed run draws what the uninterrupted one would have.

    Dropout knows no generator but torch's global one; deriving its seed from the micro-batch's number replaces saving
    the generator state of every rank. Micro-batches are numbered over all ranks, so that two of them draw what one
    does that accumulates twice as much.
    """

    def __init__(self, seed: int) -> None:
        """Remembers the root seed."""
        self._seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: WindowedBatch, batch_idx: int
    ) -> None:
        """Sets torch's global generators."""
        del pl_module, batch_idx
        number = batch.plan.index * trainer.world_size + trainer.global_rank
        torch.manual_seed(derive_seed(self._seed, "micro_batch", "0", str(number)))


class ProgressBridge(pl.Callback):
    """Hands optimiser steps and their speed to `core.progress`. Must stand after the `ThroughputMonitor`."""

    def __init__(self, progress: Progress, *, title: str, throughput: ThroughputMonitor) -> None:
        """Remembers where to report to, under which title, and whose figures to show."""
        self._progress = progress
        self._title = title
        self._throughput = throughput
        self._stack = contextlib.ExitStack()
        self._advance: Advance | None = None
        self.first_step: int | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Opens the bar; steps done by an earlier run count at once, and it is said that there are any."""
        del pl_module
        self.first_step = trainer.global_step
        if trainer.is_global_zero:
            if trainer.global_step > 0:
                self._progress.note(f"{self._title}: goes on at step {trainer.global_step} of {trainer.max_steps}")
            self._advance = self._stack.enter_context(self._progress.stage(self._title, total=trainer.max_steps))
            self._advance(trainer.global_step)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: STEP_OUTPUT,
        batch: WindowedBatch,
        batch_idx: int,
    ) -> None:
        """Advances after every optimiser step."""
        del pl_module, outputs, batch_idx
        if self._advance is not None and ends_window(trainer, batch):
            self._advance(1)
            self._progress.status(describe_speed(self._throughput.latest))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Closes the bar."""
        del trainer, pl_module
        self._stack.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Closes the bar."""
        del trainer, pl_module, exception
        self._stack.close()


class LossHistory(pl.Callback):
    """Keeps one row an optimiser step, logs every n-th and the last, and writes all rows to history.csv.

    The rows are part of the checkpoint, so that a resumed run's history has no gap and no step twice. Must stand
    after the `ThroughputMonitor` in the list of callbacks.
    """

    def __init__(self, folder: Path, *, throughput: ThroughputMonitor, log_every: int) -> None:
        """Remembers where to write, whose figures to put beside the losses, and every which step is logged."""
        self.rows: list[dict[str, float]] = []
        self._path = folder / HISTORY_NAME
        self._throughput = throughput
        self._log_every = log_every
        self._terms: dict[str, float] = {}
        self._gradient_norm = 0.0
        self._rates: dict[str, float] = {}

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Notes the gradient norm before clipping and the learning rates of this step.

        Raises:
            DivergedError: if a gradient is not finite; under 16-mixed the loss scaler skips such steps itself.
        """
        self._rates = {f"lr/{group['name']}": float(group["lr"]) for group in optimizer.param_groups}
        if not isinstance(trainer.strategy, MeasuringNorm):
            norm = float(total_norm(p.grad for p in pl_module.parameters() if p.grad is not None))
            self._note_norm(norm, trainer, step=trainer.global_step)

    def _note_norm(self, norm: float, trainer: pl.Trainer, *, step: int) -> None:
        self._gradient_norm = norm
        if trainer.precision != "16-mixed" and not math.isfinite(norm):
            stop_diverged("gradient norm", value=norm, step=step, folder=trainer.default_root_dir)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: STEP_OUTPUT,
        batch: WindowedBatch,
        batch_idx: int,
    ) -> None:
        """Adds the micro-batch's shares of the loss; at the end of a window makes and logs the row."""
        del pl_module, batch_idx
        assert isinstance(outputs, dict)
        for name, value in outputs.items():
            if name != "loss":  # scaled for Lightning; "total" is the plain one
                self._terms[name] = self._terms.get(name, 0.0) + float(trainer.strategy.reduce(value, reduce_op="sum"))
        if not ends_window(trainer, batch):
            return
        if isinstance(trainer.strategy, MeasuringNorm):  # it has the gradients to itself until the step is done
            self._note_norm(trainer.strategy.gradient_norm(), trainer, step=trainer.global_step - 1)
        losses = {f"loss/{name}": value for name, value in self._terms.items()}
        self._terms = {}
        figures = {**losses, "gradient_norm": self._gradient_norm, **self._rates, **self._throughput.latest}
        self.rows.append({"step": float(trainer.global_step), **figures})
        step = trainer.global_step
        if step % self._log_every == 0 or step == trainer.max_steps:
            for experiment in trainer.loggers:
                experiment.log_metrics(figures, step=step)

    def add(self, name: str, value: float) -> None:
        """Puts a figure that is not there at every step into the latest row."""
        self.rows[-1][name] = value

    def write(self) -> None:
        """Writes all rows, replacing the file at once."""
        if not self.rows:
            return
        stream = io.StringIO()
        # A run that goes on may have begun without a stated peak speed, and so without its column.
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        writer = csv.DictWriter(stream, fieldnames=names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "step": int(row["step"])} for row in self.rows)
        write_atomic(self._path, stream.getvalue())

    def state_dict(self) -> dict[str, Any]:
        """Returns the rows for the checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the rows of an earlier run."""
        self.rows = list(state_dict["rows"])
