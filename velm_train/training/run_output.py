"""Where a run reports to, and which checkpoints it keeps: what both training stages are given."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytorch_lightning.loggers import Logger

from velm_train.core.progress import Progress
from velm_train.core.pruning import PruneRule
from velm_train.training.starting import Keeping


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOutput:
    """Where a run reports to.

    Attributes:
        folder: of checkpoints/ and history.csv; a run that finds its checkpoints here continues.
        checkpoint_every: optimiser steps between checkpoints.
        log_every: optimiser steps between values in the loggers.
        loggers: Lightning loggers, may be empty.
        progress: gets the optimiser steps.
        title: what the progress bar is called.
        keeping: which checkpoints stay, and where training begins.
        prune: who may end the run early, because other runs of its sweep do better; None for nobody.
    """

    folder: Path
    checkpoint_every: int
    log_every: int
    loggers: Sequence[Logger]
    progress: Progress
    title: str
    keeping: Keeping = field(default_factory=Keeping)
    prune: PruneRule | None = None
