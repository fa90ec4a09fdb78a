"""Losses and gradients go in; a run that has diverged stops, and a file says at which samples."""

import json
from pathlib import Path
from typing import NoReturn

import pytorch_lightning as pl

from velm_train.core.artifacts import write_atomic
from velm_train.core.errors import ConfigError
from velm_train.training.batches import WindowedBatch

DIVERGED_NAME = "diverged.json"


class DivergedError(ConfigError):
    """A loss or a gradient is not finite."""


def stop_diverged(what: str, *, value: float, step: int, folder: str) -> NoReturn:
    """Stops before a useless checkpoint is written.

    Args:
        what: the quantity that is not finite.
        value: what it is.
        step: optimiser steps done.
        folder: of the run, where `DivergenceReport` writes.

    Raises:
        DivergedError: always.
    """
    raise DivergedError(
        f"training diverged: the {what} of optimiser step {step + 1} is {value}, it must be finite; lower the learning "
        f"rates or use precision 32-true; {Path(folder) / DIVERGED_NAME} names the samples of that step, and the last "
        "checkpoint from before is kept"
    )


class DivergenceReport(pl.Callback):
    """Keeps the samples of the step at hand, and writes them down if it diverges."""

    def __init__(self, folder: Path) -> None:
        """Remembers where to write."""
        self._path = folder / DIVERGED_NAME
        self._passes: list[dict[str, object]] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: WindowedBatch, batch_idx: int
    ) -> None:
        """Adds the samples of a forward pass; the first one of a step drops those before it."""
        del pl_module, batch_idx
        if batch.plan.index % trainer.accumulate_grad_batches == 0:
            self._passes = []
        self._passes.append({"micro_batch": batch.plan.index, "sample_ids": list(batch.plan.sample_ids)})

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Writes the file of this rank, the last pass being the one that failed."""
        del pl_module
        if isinstance(exception, DivergedError):
            body = {"step": trainer.global_step + 1, "reason": str(exception), "passes": self._passes}
            path = self._path if trainer.is_global_zero else self._path.with_suffix(f".{trainer.global_rank}.json")
            write_atomic(path, json.dumps(body, indent=1) + "\n")
