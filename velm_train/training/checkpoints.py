"""Optimiser steps and signals go in; a last.ckpt that is always whole comes out."""

import logging
import os
import pickle
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import STEP_OUTPUT

from velm_train.core.errors import ArtifactError, ResourceError
from velm_train.training.batches import WindowedBatch, ends_window
from velm_train.training.callbacks import LossHistory

logger = logging.getLogger(__name__)

CHECKPOINT_NAME = "last.ckpt"
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
"""Ctrl-C, the end of a job, and submitit's warning before preemption."""


class CheckpointEveryN(pl.Callback):
    """Writes last.ckpt every N optimiser steps, at the last one, and when a signal asks to stop.

    A signal only sets a flag: the checkpoint is written at the next step boundary, where weights, optimiser state and
    position agree, and then the run stops. A second Ctrl-C stops at once and leaves the older checkpoint.
    """

    def __init__(self, folder: Path, *, every_n_steps: int, history: LossHistory) -> None:
        """Remembers where and how often to write.

        Args:
            folder: of last.ckpt and history.csv.
            every_n_steps: optimiser steps between checkpoints, 1 or more.
            history: its rows go into the checkpoint and its file is written along.
        """
        self.path = folder / CHECKPOINT_NAME
        self.stop_signal: int | None = None
        self._every_n_steps = every_n_steps
        self._history = history

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes over the stop signals; only the main thread may, and whoever starts the Trainer gives them back."""
        del trainer, pl_module
        if threading.current_thread() is not threading.main_thread():
            return
        for number in STOP_SIGNALS:
            signal.signal(number, self._request_stop)

    def _request_stop(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.stop_signal == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.stop_signal = number
        name = signal.Signals(number).name
        logger.warning("%s: saving at the end of this step, then stopping; Ctrl-C again stops at once", name)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: STEP_OUTPUT,
        batch: WindowedBatch,
        batch_idx: int,
    ) -> None:
        """Saves at step boundaries only, on every rank alike."""
        del pl_module, outputs, batch_idx
        if not ends_window(trainer, batch):
            return
        stopping = trainer.strategy.reduce_boolean_decision(self.stop_signal is not None, all=False)
        step = trainer.global_step
        if stopping or step % self._every_n_steps == 0 or step == trainer.max_steps:
            self.save(trainer)
        if stopping:
            trainer.should_stop = True

    def save(self, trainer: pl.Trainer) -> None:
        """Writes checkpoint and history, each under another name first.

        Raises:
            ResourceError: if the folder cannot be written.
        """
        temporary = self.path.with_name(f".{CHECKPOINT_NAME}.partial")
        try:
            trainer.save_checkpoint(temporary, weights_only=False)
            if trainer.is_global_zero:
                _replace(temporary, self.path)
        except OSError as error:
            raise ResourceError(f"cannot write {self.path}: {error}; free some space or set another folder") from error
        if trainer.is_global_zero:
            self._history.write()
        trainer.strategy.barrier("checkpoint")


@contextmanager
def signals_given_back() -> Iterator[None]:
    """Leaves the stop signals, after a `with` block, to whoever had them before.

    The Trainer takes SIGTERM before any callback can see who had it, so that what a callback would give back is the
    Trainer's own handler: it outlives the training, and swallows SIGTERM from then on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _replace(temporary: Path, final: Path) -> None:
    """Puts a finished file, or the folder a sharding strategy writes, under its name."""
    if temporary.is_dir():
        shutil.rmtree(final, ignore_errors=True)
    else:
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
    temporary.replace(final)


def find_checkpoint(folder: Path) -> Path | None:
    """Returns last.ckpt of an earlier run, or None if there is none.

    Raises:
        ArtifactError: if it cannot be read.
    """
    path = folder / CHECKPOINT_NAME
    if not path.exists():
        return None
    if path.is_file():
        try:
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            raise ArtifactError(f"checkpoint {path} cannot be read ({error}); delete it to start anew") from error
    return path
