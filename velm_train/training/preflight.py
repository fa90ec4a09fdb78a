"""A model about to be trained goes in; its largest batch is tried first, and what memory it takes comes out.

    pre-flight:  predicted memory ─► forward and backward ─► measured peak ─► everything put back
                        └─ checkpointing=auto: no, some, all blocks compute again, until the batch fits

On a GPU the peak is what tensors took. On the CPU it is what was resident: blocks that were freed and are kept by the
allocator, and what is imported on the way, come on top of the prediction.

A batch that does not fit ends the run with one line that says which one it is and what would help, whether it is met
here or in the middle of training.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import pytorch_lightning as pl
import torch

from velm_train.core.errors import ResourceError
from velm_train.models.recompute import keep_activations, recompute_activations
from velm_train.training.batches import WindowedBatch
from velm_train.training.datamodule import SampleDataModule
from velm_train.training.divergence import DivergedError
from velm_train.training.memory import BatchSize, MemoryModel, estimate_memory, memory_model, tensor_bytes
from velm_train.training.memory_words import (
    checkpointing_line,
    out_of_memory_line,
    preflight_line,
    without_batch_line,
)
from velm_train.training.rehearsal import (
    forget_peak_on,
    free_unused,
    has_states,
    peak_on,
    ran_out_of_memory,
    rehearse,
    room_on,
)
from velm_train.training.samplers import MicroBatchPlan
from velm_train.training.trainable import train_only_what_learns

Checkpointing = Literal["auto", "off", "every_n", "full"]
Preflight = Literal["auto", "off", "on"]

_SAFE_SHARE = 0.92
"""Of a GPU's memory, for checkpointing=auto: the rest is lost between blocks of other sizes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MemorySettings:
    """How memory is saved and watched over.

    Attributes:
        checkpointing: which blocks of the decoder compute their activations again: none (off), the first of every
            `every` (every_n), all (full); auto takes the first of these that fits by the pre-flight, off without one.
        every: for every_n and auto, 2 or more.
        preflight: whether the largest batch is tried first; auto where there is a GPU.
    """

    checkpointing: Checkpointing = "off"
    every: int = 2
    preflight: Preflight = "off"

    def choices(self) -> tuple[int, ...]:
        """Returns what may be tried, in order: blocks of which the first is computed again, 0 for none."""
        tried: dict[Checkpointing, tuple[int, ...]] = {
            "off": (0,),
            "every_n": (self.every,),
            "full": (1,),
            "auto": (0, self.every, 1),
        }
        return tried[self.checkpointing]

    def tries_first(self, device: torch.device) -> bool:
        """Returns whether there is a pre-flight on a device."""
        return self.preflight == "on" or (self.preflight == "auto" and device.type == "cuda")


class MemoryWatch(pl.Callback):
    """Runs the pre-flight, and knows which batch was at hand when memory ran out. Must stand first."""

    def __init__(
        self,
        datamodule: SampleDataModule,
        *,
        decoder: torch.nn.Module,
        settings: MemorySettings,
        state_bytes: int,
        note: Callable[[str], None],
    ) -> None:
        """Remembers what to watch.

        Args:
            datamodule: whose largest batch is tried.
            decoder: the language model without its output layer.
            settings: what to do.
            state_bytes: of the optimiser for each weight that learns.
            note: shows a line that stays.
        """
        self._datamodule = datamodule
        self._decoder = decoder
        self._settings = settings
        self._state_bytes = state_bytes
        self._note = note
        self._every = settings.choices()[0]
        self._device = torch.device("cpu")
        self._other_bytes = 0
        self._model: MemoryModel | None = None
        self._at_hand: tuple[MicroBatchPlan, BatchSize] | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Sets what is computed again for the length of a `with` block, and explains running out of memory in it.

        Raises:
            ResourceError: in place of the allocator's own error.
        """
        self._recompute(self._every)
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not ran_out_of_memory(error):
                raise
            raise ResourceError(self._explain(reason=str(error).splitlines()[0])) from error
        finally:
            keep_activations(self._decoder)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Runs the pre-flight if there is to be one.

        Raises:
            ResourceError: if the largest batch does not fit.
        """
        self._device = pl_module.device
        self._model = memory_model(
            pl_module, self._decoder, precision=str(trainer.precision), state_bytes=self._state_bytes
        )
        self._other_bytes = max(0, room_on(self._device).held - self._model.stored_bytes)
        plan = self._datamodule.largest_micro_batch() if self._settings.tries_first(self._device) else None
        if plan is None:
            return
        train_only_what_learns(pl_module)  # Lightning calls the module's own hook after this one
        windowed = self._datamodule.load(plan, device=self._device)
        self._at_hand = (plan, _size_of(windowed))
        choices = self._settings.choices()
        for every in choices:
            self._recompute(every)
            fits = self._try(trainer, pl_module, windowed, last=every == choices[-1])
            free_unused(self._device)
            if trainer.strategy.reduce_boolean_decision(fits, all=True):
                break
        else:
            raise ResourceError(self._explain(reason="pre-flight"))
        if len(choices) > 1 and trainer.is_global_zero:
            self._note(checkpointing_line(self._every))
        forget_peak_on(self._device)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: WindowedBatch, batch_idx: int
    ) -> None:
        """Remembers the batch."""
        del trainer, pl_module, batch_idx
        self._at_hand = (batch.plan, _size_of(batch))

    def _recompute(self, every: int) -> None:
        self._every = every
        keep_activations(self._decoder)
        if every:
            recompute_activations(self._decoder, every=every)

    def _try(self, trainer: pl.Trainer, module: pl.LightningModule, windowed: WindowedBatch, *, last: bool) -> bool:
        """Runs the batch unless it is known not to fit, and says what it takes."""
        assert self._model is not None
        batch = _size_of(windowed)
        estimate = estimate_memory(self._model, batch, every=self._every)
        states = 0 if has_states(trainer) else estimate.optimiser
        room = room_on(self._device)
        # Where memory is promised before it is there, a process that asks for too much is ended without a word.
        if self._device.type != "cuda" and room.held + estimate.passing + states > room.limit:
            return False
        forget_peak_on(self._device)
        started = time.perf_counter()
        try:
            rehearse(trainer, module, windowed, state_bytes=states)
        except DivergedError:
            return True  # the first step will say so, with its samples
        except (RuntimeError, MemoryError) as error:
            if not ran_out_of_memory(error):
                raise
            return False
        peak = peak_on(self._device)
        if self._device.type == "cuda" and not last and peak is not None and peak > _SAFE_SHARE * room.limit:
            return False
        if trainer.is_global_zero:
            seconds = time.perf_counter() - started
            self._note(
                preflight_line(batch, estimate, other=self._other_bytes, peak=peak, limit=room.limit, seconds=seconds)
            )
        return True

    def _explain(self, *, reason: str) -> str:
        limit = room_on(self._device).limit
        if self._model is None or self._at_hand is None:
            stored = sum(parameter.nbytes for parameter in self._decoder.parameters())
            return without_batch_line(stored, limit=limit, reason=reason)
        plan, batch = self._at_hand
        return out_of_memory_line(
            plan,
            batch,
            model=self._model,
            every=self._every,
            other=self._other_bytes,
            limit=limit,
        )


def _size_of(windowed: WindowedBatch) -> BatchSize:
    plan = windowed.plan
    return BatchSize(
        samples=len(plan.samples),
        tokens=plan.num_padded_tokens,
        supervised=plan.num_supervised,
        input_bytes=tensor_bytes(windowed.batch),
    )
