"""A model and a datamodule go in; trained weights in place, a checkpoint, a history and a summary come out."""

import contextlib
import logging
import signal
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from pytorch_lightning.strategies import Strategy

from velm_train.core.progress import Progress
from velm_train.models.protocol import VisionLanguageModel
from velm_train.training.alignment import AlignmentLoss, AlignmentModule, Vocabulary
from velm_train.training.callbacks import HISTORY_NAME, LossHistory, ProgressBridge, SeedEveryBatch, ThroughputMonitor
from velm_train.training.checkpoints import CheckpointEveryN, find_checkpoint, signals_given_back
from velm_train.training.datamodule import SampleDataModule
from velm_train.training.divergence import DivergenceReport
from velm_train.training.module import InspectionModule
from velm_train.training.optimiser import Optimisation, frozen_where_rate_is_zero

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]

_QUIET_WARNINGS = (
    ".*in eval mode at the start of training.*",  # the frozen parts are meant to be
    ".*your dataloader is not resumable.*",  # the datamodule resumes it
    ".*does not have many workers.*",  # features are memory-mapped: workers would only copy them
    ".*available but not used.*",  # the accelerator is the user's choice
    ".*LeafSpec.*is deprecated.*",  # inside Lightning
    ".*lr_scheduler.step.*before.*optimizer.step.*",  # the loss scaler of 16-mixed skips first steps
)
_QUIET_LOG_PREFIXES = ("GPU available", "TPU available", "HPU available", "`Trainer.fit` stopped", "💡 Tip", "Restor")


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """Where and in which precision Lightning runs; all names are Lightning's."""

    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: str | Strategy = "auto"
    precision: Precision = "32-true"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOutput:
    """Where a run reports to.

    Attributes:
        folder: of last.ckpt and history.csv; a run that finds its checkpoint here continues.
        checkpoint_every: optimiser steps between checkpoints.
        log_every: optimiser steps between values in the loggers.
        loggers: Lightning loggers, may be empty.
        progress: gets the optimiser steps.
        title: what the progress bar is called.
    """

    folder: Path
    checkpoint_every: int
    log_every: int
    loggers: Sequence[Logger]
    progress: Progress
    title: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FitSummary:
    """What a run did, earlier parts of a resumed run included.

    Attributes:
        num_steps: optimiser steps done.
        first_step: step at which this call began; 0 unless it continued an earlier run.
        seconds: sum over all steps.
        useful_tokens_per_second: tokens that are not padding, over all steps.
        samples_per_second: over all steps.
        padding_fraction: mean over the steps, 0..1.
        losses: loss of every step.
        history_path: the same and more as CSV.
    """

    num_steps: int
    first_step: int
    seconds: float
    useful_tokens_per_second: float
    samples_per_second: float
    padding_fraction: float
    losses: tuple[float, ...]
    history_path: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignmentParts:
    """What the alignment stage needs of a model.

    Attributes:
        projector: final features (T, N, Df) -> tokens (T, N, D).
        look_twice: (evidence, tokens) -> LookTwiceOutput, or None.
        vocabulary: words with the language model's input embeddings.
    """

    projector: torch.nn.Module
    look_twice: torch.nn.Module | None
    vocabulary: Vocabulary


def fit_adapter(
    model: VisionLanguageModel,
    datamodule: SampleDataModule,
    *,
    optimisation: Optimisation,
    engine: Engine,
    output: RunOutput,
    bce_weight: float = 0.0,
    pos_weight: float = 1.0,
    mask_weight: float = 0.0,
) -> FitSummary:
    """Tunes LoRA, projector and look-twice adapter, continuing from last.ckpt if there is one.

    The model is left in eval mode, on the CPU if Lightning moved it there.

    Args:
        model: trained in place; must also be a torch module.
        datamodule: feeds `core.batch.Batch`.
        optimisation: rates by group, decay, schedule, number of steps.
        engine: where to run.
        output: where to report to.
        bce_weight: weight of the adapter's own anomaly score in the loss.
        pos_weight: weight of anomalous views in it.
        mask_weight: weight of the token scores' loss against masks; above 0 the batches must hold `gt_scores`.

    Raises:
        DivergedError: if the loss or a gradient is not finite.
        ConfigError: if nothing is left to train.
        ArtifactError: if last.ckpt is damaged or belongs to another model or other data.
        KeyboardInterrupt: after Ctrl-C, with last.ckpt written; a rerun continues there.
    """
    with frozen_where_rate_is_zero(model.trainable_groups(), learning_rates=optimisation.learning_rates):
        module = InspectionModule(
            model,
            optimisation=optimisation,
            bce_weight=bce_weight,
            pos_weight=pos_weight,
            mask_weight=mask_weight,
        )
        return _fit(module, datamodule, optimisation=optimisation, engine=engine, output=output)


def fit_alignment(
    parts: AlignmentParts,
    datamodule: SampleDataModule,
    *,
    weights: AlignmentLoss,
    optimisation: Optimisation,
    engine: Engine,
    output: RunOutput,
) -> FitSummary:
    """Tunes projector and look-twice adapter against the words of the closed list, without the language model.

    Args:
        parts: trained in place.
        datamodule: feeds `alignment.AlignmentBatch`, one forward pass per step.
        weights: of the loss terms.
        optimisation: rates of "projector" and, with an adapter, "look_twice".
        engine: where to run.
        output: where to report to.

    Raises:
        ConfigError, ArtifactError, KeyboardInterrupt: as `fit_adapter`.
    """
    assert datamodule.accumulate == 1, "the class balance of the alignment loss is taken over one batch"
    module = AlignmentModule(
        parts.projector, parts.look_twice, vocabulary=parts.vocabulary, weights=weights, optimisation=optimisation
    )
    with frozen_where_rate_is_zero(module.trainable_groups(), learning_rates=optimisation.learning_rates):
        return _fit(module, datamodule, optimisation=optimisation, engine=engine, output=output)


def _fit(
    module: pl.LightningModule,
    datamodule: SampleDataModule,
    *,
    optimisation: Optimisation,
    engine: Engine,
    output: RunOutput,
) -> FitSummary:
    throughput = ThroughputMonitor()
    history = LossHistory(output.folder, throughput=throughput, log_every=output.log_every)
    checkpoints = CheckpointEveryN(output.folder, every_n_steps=output.checkpoint_every, history=history)
    progress = ProgressBridge(output.progress, title=output.title)
    with _quiet_lightning():
        trainer = pl.Trainer(
            accelerator=engine.accelerator,
            devices=engine.devices,
            num_nodes=engine.num_nodes,
            strategy=engine.strategy,
            precision=engine.precision,
            max_steps=optimisation.max_steps,
            max_epochs=-1,
            accumulate_grad_batches=datamodule.accumulate,
            gradient_clip_val=optimisation.gradient_clip,
            logger=list(output.loggers) or False,
            log_every_n_steps=output.log_every,
            callbacks=[
                SeedEveryBatch(datamodule.seed),
                throughput,
                history,
                progress,
                checkpoints,
                DivergenceReport(output.folder),
            ],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            default_root_dir=output.folder,
        )
        checkpoint = find_checkpoint(output.folder)
        _run(trainer, module, datamodule, checkpoint, checkpoints)
    module.eval()
    # A run that was finished before never starts training.
    first_step = len(history.rows) if progress.first_step is None else progress.first_step
    return _summarise(history.rows, first_step=first_step, output=output)


def _run(
    trainer: pl.Trainer,
    module: pl.LightningModule,
    datamodule: SampleDataModule,
    checkpoint: Path | None,
    checkpoints: CheckpointEveryN,
) -> None:
    """Runs the Trainer; a signal that stopped it is raised again once everything is saved and closed."""
    try:
        with signals_given_back():
            trainer.fit(module, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as error:  # what Lightning makes of KeyboardInterrupt
        raise KeyboardInterrupt from error
    if checkpoints.stop_signal is not None:
        signal.raise_signal(checkpoints.stop_signal)  # the handler from before: KeyboardInterrupt, requeue, exit
        raise KeyboardInterrupt


def _summarise(rows: Sequence[dict[str, float]], *, first_step: int, output: RunOutput) -> FitSummary:
    seconds = sum(row["step_seconds"] for row in rows)
    return FitSummary(
        num_steps=len(rows),
        first_step=first_step,
        seconds=seconds,
        useful_tokens_per_second=sum(row["useful_tokens"] for row in rows) / max(seconds, 1e-9),
        samples_per_second=sum(row["samples"] for row in rows) / max(seconds, 1e-9),
        padding_fraction=sum(row["padding_fraction"] for row in rows) / max(1, len(rows)),
        losses=tuple(row["loss/total"] for row in rows),
        history_path=output.folder / HISTORY_NAME,
    )


class _DropTips(logging.Filter):
    """Keeps what Lightning says about every start away from the user."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().lstrip().startswith(_QUIET_LOG_PREFIXES)


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silences the named tips and warnings, and nothing else, for the length of a run."""
    drop_tips = _DropTips()
    speaker: Any = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    speaker.addFilter(drop_tips)
    try:
        with warnings.catch_warnings():
            for message in _QUIET_WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        speaker.removeFilter(drop_tips)
