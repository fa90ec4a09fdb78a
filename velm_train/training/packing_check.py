"""One of the first batches of a run goes in, as a row and sample by sample; whether both are one comes out.

Rows are exact only if every layer of the language model keeps the samples of a row apart. That is tested for each
family, but a checkpoint may bring a model of its own, and a new version of a library another attention. So it is tried
once at the start of every run: a difference far beyond rounding switches rows off, and says so.
"""

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytorch_lightning as pl
import torch

from velm_train.core.batch import Batch
from velm_train.models.modes import evaluating
from velm_train.training.batches import TrainingBatch
from velm_train.training.datamodule import SampleDataModule
from velm_train.training.module import InspectionModule
from velm_train.training.samplers import MicroBatchPlan

logger = logging.getLogger(__name__)

FLOAT32_TOLERANCE = 1e-3
"""Largest share by which loss or gradient may differ where all is computed in float32: rounding gives about 1e-5."""

COARSE_TOLERANCE = 0.1
"""The same in 16 bits or less; rounding gives about a tenth of it."""

_LOSS_SCALE = 1024.0
"""Gradients are scaled up on their way, so that they stay above the smallest numbers of float16."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LossAndGradient:
    """What some samples do to the weights.

    Attributes:
        loss: their share of the window's.
        gradient: of every weight that learns, 0 where it is not reached.
    """

    loss: float
    gradient: list[torch.Tensor]

    def distance_to(self, other: "LossAndGradient") -> float:
        """Returns the larger of two shares: by how much loss differs, and the length of the gradients' difference."""
        length = float(torch.nn.utils.get_total_norm(self.gradient))
        apart = float(
            torch.nn.utils.get_total_norm([a - b for a, b in zip(self.gradient, other.gradient, strict=True)])
        )
        return max(_share(abs(self.loss - other.loss), abs(self.loss)), _share(apart, length))


class PackingCheck(pl.Callback):
    """Compares rows with samples computed one by one, without dropout, before the first step.

    Must stand after the `MemoryWatch`, which may decide that activations are computed again.
    """

    def __init__(self, datamodule: SampleDataModule, *, note: Callable[[str], None]) -> None:
        """Remembers whose batches are tried.

        Args:
            datamodule: its rows are switched off if they are not exact.
            note: shows a line that stays.
        """
        self._datamodule = datamodule
        self._note = note

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tries one of the first micro-batches of those still to come."""
        plan = self._datamodule.micro_batch_to_try()
        if plan is None:  # a finished run has none left
            return
        assert isinstance(pl_module, InspectionModule)
        row = self._datamodule.load(plan, device=pl_module.device).batch
        singles = (batch.to(pl_module.device) for batch in self._datamodule.side_by_side(plan))
        with without_dropout(pl_module), trainer.precision_plugin.train_step_context():
            expected = loss_and_gradient(pl_module, singles, plan)
            found = loss_and_gradient(pl_module, [row], plan)
        if not math.isfinite(expected.loss):  # the first step will say so, with its samples
            return
        difference = expected.distance_to(found)
        tolerance = _tolerance(pl_module, precision=str(trainer.precision))
        passed = trainer.strategy.reduce_boolean_decision(difference <= tolerance, all=True)
        self._datamodule.in_rows = passed
        found_out = (
            f"on one of the first batches loss and gradient differ by {difference:.1e} of their size from samples "
            f"computed one by one, {tolerance:.0e} is allowed"
        )
        if passed:
            self._note(f"packing is exact: {found_out}")
            return
        warning = (
            f"packing is switched off, because it is not exact here: {found_out}; passes are padded instead, and with "
            "trainer.questions_per_image above 1 take more time and memory"
        )
        logger.warning(warning)
        self._note(f"warning: {warning}")


@contextmanager
def without_dropout(module: torch.nn.Module) -> Iterator[None]:
    """Takes all chance out of a module; blocks that compute their activations again still do, to save memory."""
    with evaluating(module):
        for part in module.modules():
            if getattr(part, "gradient_checkpointing", False):
                part.training = True  # of the block alone: its parts stay in eval mode
        yield


def loss_and_gradient(
    module: InspectionModule, batches: Iterable[TrainingBatch], plan: MicroBatchPlan
) -> LossAndGradient:
    """Returns loss and gradient of a micro-batch from batches that hold its samples; nothing is accumulated.

    Args:
        module: on the device of the batches.
        batches: together the samples of the micro-batch.
        plan: of the micro-batch.
    """
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    total = 0.0
    sums = [torch.zeros_like(parameter) for parameter in learning]
    for batch in batches:
        assert isinstance(batch, Batch)
        loss = module.loss_terms(batch, plan).total
        parts = torch.autograd.grad(loss * _LOSS_SCALE, learning, allow_unused=True)
        sums = [known if part is None else known + part for known, part in zip(sums, parts, strict=True)]
        total += float(loss.detach())
    return LossAndGradient(loss=total, gradient=sums)


def _share(part: float, whole: float) -> float:
    return part / max(whole, torch.finfo(torch.float32).tiny)


def _tolerance(module: torch.nn.Module, *, precision: str) -> float:
    exact = precision == "32-true" and all(one.dtype == torch.float32 for one in module.parameters())
    return FLOAT32_TOLERANCE if exact else COARSE_TOLERANCE
