"""Optimiser steps and the wish to stop go in; complete checkpoints, the newest few and the best, come out."""

import errno
import logging
import shutil
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.utilities.types import STEP_OUTPUT

from velm_train.core.errors import ArtifactError, ResourceError
from velm_train.training.batches import WindowedBatch, ends_window
from velm_train.training.callbacks import LossHistory
from velm_train.training.checkpoint_files import (
    best_of,
    complete_ones,
    discard_later_than,
    keep_only,
    partial_of,
    path_of,
    publish,
    tidy,
)
from velm_train.training.starting import Keeping, note_begun
from velm_train.training.stopping import StopRequest
from velm_train.training.validation import MeasureValidation

logger = logging.getLogger(__name__)

_PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE, errno.ETIMEDOUT)
"""What the system says where the next save may succeed: no room, or a server that does not answer."""


class KeepCheckpoints(pl.Callback):
    """Saves every N optimiser steps, at the last one, at the best so far, and when a signal asks to stop.

    Must stand after whatever adds to the state of a step. A save that fails for want of room leaves the older
    checkpoint in place, and training goes on.
    """

    def __init__(
        self,
        folder: Path,
        *,
        every_n_steps: int,
        keeping: Keeping,
        stop: StopRequest,
        history: LossHistory,
        validation: MeasureValidation | None,
    ) -> None:
        """Remembers where and how often to write.

        Args:
            folder: of the checkpoints.
            every_n_steps: optimiser steps between checkpoints, 1 or more.
            keeping: which of them stay, and whose weights training ends with.
            stop: says when to stop.
            history: its rows go into the checkpoint and its file is written along.
            validation: says which is the best; None without validation.
        """
        self._folder = folder
        self._every_n_steps = every_n_steps
        self._keeping = keeping
        self._stop = stop
        self._history = history
        self._validation = validation
        self._history_behind = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Clears what lies ahead of where training begins: the same command has to go on from here.

        Raises:
            ArtifactError: if the ranks have not begun at one step, because they do not see the same files.
        """
        del pl_module
        step = trainer.global_step
        if not trainer.strategy.reduce_boolean_decision(trainer.strategy.broadcast(step) == step, all=True):
            raise ArtifactError(
                f"the processes see different checkpoints in {self._folder} (this one begins at step {step}): put "
                "paths.artifacts on a disk that all of them share"
            )
        if trainer.is_global_zero:
            discard_later_than(self._folder, step=step)
            tidy(self._folder)
            note_begun(self._folder, run=self._keeping.run)

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
        stopping = self._stop.agreed(trainer)
        step = trainer.global_step
        best = self._keeping.best and self._validation is not None and self._validation.is_best(step)
        if stopping or best or step % self._every_n_steps == 0 or step == trainer.max_steps:
            self.save(trainer)
        if stopping:
            trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the history if it could not be, and puts the best weights into the model if they are wanted.

        Raises:
            ArtifactError: if there is no checkpoint of them.
            ResourceError: if there is still no room.
        """
        del pl_module
        if trainer.global_step < trainer.max_steps:
            return
        if self._history_behind and trainer.is_global_zero:
            self._history.write()
        if not self._keeping.use_best:
            return
        best = best_of(complete_ones(self._folder))
        if best is None:
            raise ArtifactError(
                f"{self._folder} holds no complete checkpoint with a validation loss for callbacks.use_best=true; "
                "free some space and give the same command again"
            )
        checkpoint = trainer.strategy.load_checkpoint(best.path, weights_only=True)
        trainer.strategy.load_model_state_dict(checkpoint, strict=False)
        logger.info("the weights of step %d are kept: validation loss %.4g", best.step, best.validation_loss)

    def save(self, trainer: pl.Trainer) -> None:
        """Writes checkpoint and history; says so and goes on if there is no room for them.

        Raises:
            ResourceError: if the folder cannot be written, and will not be later.
        """
        step = trainer.global_step
        path = path_of(self._folder, step=step)
        problem: str | None = None
        try:
            self._write(trainer, path)
            if trainer.is_global_zero:
                loss = None if self._validation is None else self._validation.loss_at(step)
                publish(path, step=step, validation_loss=loss, origin=self._keeping.origin)
                keep_only(self._folder, last=self._keeping.last, best=self._keeping.best)
                self._history.write()
        except (OSError, RuntimeError, ResourceError) as error:
            problem = _passing_problem(error)
            if problem is None:
                raise _lasting(error, folder=self._folder) from error
        self._history_behind = problem is not None
        if problem is not None:
            logger.warning("step %d is not saved: %s; training goes on, the older checkpoint stays", step, problem)
            _remove(partial_of(path))
        trainer.strategy.barrier("checkpoint")

    def _write(self, trainer: pl.Trainer, path: Path) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            trainer.save_checkpoint(partial_of(path), weights_only=False)
        except (OSError, RuntimeError) as error:
            if _passing_problem(error) is not None:
                # The Trainer ends a save with this barrier: the rank that writes has not reached it, the others wait.
                trainer.strategy.barrier("Trainer.save_checkpoint")
            raise


def _passing_problem(error: BaseException) -> str | None:
    """Returns what stands in the way for now, or None if it will stay there."""
    reason = error.__cause__ if isinstance(error, ResourceError) and error.__cause__ is not None else error
    if isinstance(reason, OSError):
        return str(reason) if reason.errno in _PASSING else None
    failed_write = isinstance(reason, RuntimeError) and "PytorchStreamWriter" in str(reason)  # torch's words for it
    return str(reason).splitlines()[0] if failed_write else None


def _lasting(error: Exception, *, folder: Path) -> Exception:
    if not isinstance(error, OSError):
        return error
    return ResourceError(f"cannot write to {folder}: {error}; set paths.artifacts to a folder you may write")


def _remove(partial: Path) -> None:
    if partial.is_dir():
        shutil.rmtree(partial, ignore_errors=True)
    else:
        partial.unlink(missing_ok=True)
