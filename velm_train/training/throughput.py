"""Lightning's hooks and a clock go in; what every optimiser step took, and how much of it was useful, come out.

A step's seconds are those between the ends of two steps:

    data        from the end of one micro-batch, its bookkeeping done, to the batch being on the device
    forward     from there to the loss
    backward    from there to the gradients
    optimiser   from there to the moved weights, clipping included
    (the rest)  logging, checkpoints

Useful tokens are real ones: all that are not padding. Supervised tokens are those among them that carry loss.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import STEP_OUTPUT

from velm_train.models.decoder_shape import DecoderShape
from velm_train.training.batches import WindowedBatch, ends_window
from velm_train.training.rehearsal import peak_on

PHASES = ("data", "forward", "backward", "optimiser")
_COUNTS = ("_useful_tokens", "_padded_tokens", "_supervised_tokens", "_squared_lengths", "_samples")

Clock = Callable[[], float]
"""Returns seconds from any start."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PeakSpeed:
    """What utilisation is measured against.

    Attributes:
        tflops: that the device reaches at its best, in units of 10**12 floating-point operations a second.
        shape: of the decoder, which gives the operations of a step.
    """

    tflops: float
    shape: DecoderShape


class ThroughputMonitor(pl.Callback):
    """Times the phases of every optimiser step on this rank, and counts what all ranks do in it.

    Attributes:
        latest: figures of the last finished step; `mfu`, the share of the peak speed that useful operations took, is
            there if a peak is stated; memory is that of the rank which took most.
    """

    def __init__(self, *, peak: PeakSpeed | None = None, clock: Clock | None = None) -> None:
        """Starts with no step.

        Args:
            peak: None for no `mfu`.
            clock: None for the machine's; on a GPU one that waits for the device, which training does at these
                places in any case: it reads the loss, the gradient norm and the loss's shares.
        """
        self.latest: dict[str, float] = {}
        self._peak = peak
        self._clock = clock
        self._device = torch.device("cpu")
        self._mark = 0.0
        self._peak_memory: int | None = None
        self._restart(0.0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock."""
        del trainer
        self._device = pl_module.device
        self._mark = self._now()
        self._restart(self._mark)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: WindowedBatch, batch_idx: int
    ) -> None:
        """Ends waiting for data."""
        del trainer, pl_module, batch, batch_idx
        self._end("data")

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: torch.Tensor) -> None:
        """Ends the forward pass."""
        del trainer, pl_module, loss
        self._end("forward")

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ends the backward pass."""
        del trainer, pl_module
        self._end("backward")

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: STEP_OUTPUT,
        batch: WindowedBatch,
        batch_idx: int,
    ) -> None:
        """Adds the micro-batch; at the end of a window puts the step's figures in `latest`."""
        del pl_module, outputs, batch_idx
        self._end("optimiser")
        plan = batch.plan
        self._useful_tokens += plan.num_useful_tokens
        self._padded_tokens += plan.num_padded_tokens
        self._supervised_tokens += plan.num_supervised
        self._squared_lengths += plan.squared_lengths
        self._samples += len(plan.samples)
        if ends_window(trainer, batch):
            self._share_counts(trainer)
            self.latest = self._figures(max(self._mark - self._window_start, 1e-9), num_devices=trainer.world_size)
            self._restart(self._mark)

    def start_waiting(self) -> None:
        """Begins the wait for the next batch; what was done since the last phase counts as bookkeeping."""
        self._mark = self._now()

    def _share_counts(self, trainer: pl.Trainer) -> None:
        """Adds what the other ranks have done in this window; each of them times itself."""
        self._peak_memory = peak_on(self._device)
        if trainer.world_size == 1:
            return
        counts = torch.tensor([float(getattr(self, name)) for name in _COUNTS], dtype=torch.float64)
        total = trainer.strategy.reduce(counts.to(self._device), reduce_op="sum")
        for name, value in zip(_COUNTS, total.tolist(), strict=True):
            setattr(self, name, int(value))
        peak = torch.tensor(float(self._peak_memory or 0), dtype=torch.float64, device=self._device)
        self._peak_memory = int(trainer.strategy.reduce(peak, reduce_op="max")) or None

    def _figures(self, seconds: float, *, num_devices: int) -> dict[str, float]:
        figures = {
            "step_seconds": seconds,
            **{f"{phase}_seconds": taken for phase, taken in self._phases.items()},
            "useful_tokens": float(self._useful_tokens),
            "supervised_tokens": float(self._supervised_tokens),
            "samples": float(self._samples),
            "useful_tokens_per_second": self._useful_tokens / seconds,
            "supervised_tokens_per_second": self._supervised_tokens / seconds,
            "samples_per_second": self._samples / seconds,
            "padding_fraction": 1.0 - self._useful_tokens / max(1, self._padded_tokens),
            "data_wait_fraction": self._phases["data"] / seconds,
        }
        if self._peak_memory is not None:
            figures["peak_memory_bytes"] = float(self._peak_memory)
        if self._peak is not None:
            operations = self._peak.shape.training_operations(
                tokens=self._useful_tokens, squared_lengths=self._squared_lengths, supervised=self._supervised_tokens
            )
            figures["mfu"] = operations / (seconds * num_devices * self._peak.tflops * 1e12)
        return figures

    def _end(self, phase: str) -> None:
        now = self._now()
        self._phases[phase] += now - self._mark
        self._mark = now

    def _now(self) -> float:
        if self._clock is not None:
            return self._clock()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def _restart(self, now: float) -> None:
        self._window_start = now
        self._useful_tokens = self._padded_tokens = self._supervised_tokens = self._squared_lengths = self._samples = 0
        self._phases = dict.fromkeys(PHASES, 0.0)


class BookkeepingEnd(pl.Callback):
    """Ends the bookkeeping of a micro-batch, so that it does not count as waiting for data. Must stand last."""

    def __init__(self, throughput: ThroughputMonitor) -> None:
        """Remembers whose clock to set."""
        self._throughput = throughput

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: STEP_OUTPUT,
        batch: WindowedBatch,
        batch_idx: int,
    ) -> None:
        """Begins the wait for the next batch."""
        del trainer, pl_module, outputs, batch, batch_idx
        self._throughput.start_waiting()


def describe_speed(figures: Mapping[str, float]) -> str:
    """Returns the figures of a step, or means of many, as a short text for a progress bar.

    Args:
        figures: as in `ThroughputMonitor.latest`.
    """
    parts = [
        f"{figures['samples_per_second']:.3g} samples/s",
        f"{figures['useful_tokens_per_second']:,.0f} useful tokens/s",
        f"{figures['padding_fraction']:.0%} padding",
        f"{figures['data_wait_fraction']:.0%} waiting for data",
    ]
    if "mfu" in figures:
        parts.append(f"{figures['mfu']:.1%} MFU")
    return ", ".join(parts)
