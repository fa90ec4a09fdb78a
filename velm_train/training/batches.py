"""What the two training stages are fed: a batch, and the plan of the window it belongs to."""

from dataclasses import dataclass

import pytorch_lightning as pl
import torch
from jaxtyping import Float, Int

from velm_train.core.batch import Batch, VisionEvidence
from velm_train.training.samplers import MicroBatchPlan

NORMAL_WORD_INDEX = 0
UNKNOWN_WORD_INDEX = -1
"""View type of views that are left out of the word losses."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignmentBatch:
    """Evidence of I views with the word of each.

    Attributes:
        evidence: from the cache; `map_scores` decides which tokens are unusual.
        view_word: row of the vocabulary; NORMAL_WORD_INDEX for reference views and false alarms,
            UNKNOWN_WORD_INDEX to leave a view out.
        view_anomalous: 1, 0, or NaN for views whose image score is not supervised.
    """

    evidence: VisionEvidence
    view_word: Int[torch.Tensor, " I"]
    view_anomalous: Float[torch.Tensor, " I"]

    def to(self, device: torch.device) -> "AlignmentBatch":
        """Returns the same batch on another device."""
        return AlignmentBatch(
            evidence=self.evidence.to(device),
            view_word=self.view_word.to(device),
            view_anomalous=self.view_anomalous.to(device),
        )


TrainingBatch = Batch | AlignmentBatch


class WindowedBatch:
    """A batch with the plan of the window it belongs to.

    A plain class on purpose: Lightning's precision plugins walk into dataclasses and refuse frozen ones.
    """

    def __init__(self, *, batch: TrainingBatch, plan: MicroBatchPlan) -> None:
        """Keeps both."""
        self.batch = batch
        self.plan = plan


def ends_window(trainer: pl.Trainer, windowed: WindowedBatch) -> bool:
    """True if the micro-batch is the last before an optimiser step."""
    return (windowed.plan.index + 1) % trainer.accumulate_grad_batches == 0
