"""A model and a datamodule go in; trained weights in place, a checkpoint, a history and a summary come out."""

import contextlib
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger

from velm_train.core.progress import Progress
from velm_train.models.compilation import compiled_blocks
from velm_train.models.decoder_shape import shape_of
from velm_train.models.packing.attention import row_attention
from velm_train.models.protocol import VisionLanguageModel
from velm_train.training.alignment import AlignmentLoss, AlignmentModule, Vocabulary
from velm_train.training.callbacks import HISTORY_NAME, LossHistory, ProgressBridge, SeedEveryBatch
from velm_train.training.checkpoints import CheckpointEveryN, find_checkpoint, signals_given_back
from velm_train.training.confidence import MeasureConfidence
from velm_train.training.datamodule import SampleDataModule
from velm_train.training.divergence import DivergenceReport
from velm_train.training.engine import Engine
from velm_train.training.module import InspectionModule
from velm_train.training.optimiser import Optimisation, frozen_where_rate_is_zero
from velm_train.training.packing_check import PackingCheck
from velm_train.training.preflight import MemoryWatch
from velm_train.training.quiet import quiet_lightning
from velm_train.training.summary import FitSummary, summarise
from velm_train.training.throughput import BookkeepingEnd, PeakSpeed, ThroughputMonitor

__all__ = ["AlignmentParts", "Engine", "FitSummary", "RunOutput", "fit_adapter", "fit_alignment"]


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
        ResourceError: if a batch does not fit into memory.
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
        decoder = model.decoder
        note, state_bytes = output.progress.note, optimisation.state_bytes
        watch = MemoryWatch(datamodule, decoder=decoder, settings=engine.memory, state_bytes=state_bytes, note=note)
        with (
            watch.watching(),
            compiled_blocks(decoder) if engine.compile_blocks else contextlib.nullcontext(),
            row_attention(decoder) if datamodule.in_rows else contextlib.nullcontext(),
        ):
            return _fit(
                module,
                datamodule,
                optimisation=optimisation,
                engine=engine,
                output=output,
                throughput=ThroughputMonitor(peak=_peak_speed(engine, decoder)),
                watch=watch,
            )


def _peak_speed(engine: Engine, decoder: torch.nn.Module) -> PeakSpeed | None:
    return None if engine.peak_tflops is None else PeakSpeed(tflops=engine.peak_tflops, shape=shape_of(decoder))


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
        return _fit(
            module,
            datamodule,
            optimisation=optimisation,
            engine=engine,
            output=output,
            throughput=ThroughputMonitor(),
            watch=None,
        )


def _fit(
    module: pl.LightningModule,
    datamodule: SampleDataModule,
    *,
    optimisation: Optimisation,
    engine: Engine,
    output: RunOutput,
    throughput: ThroughputMonitor,
    watch: MemoryWatch | None,
) -> FitSummary:
    history = LossHistory(output.folder, throughput=throughput, log_every=output.log_every)
    checkpoints = CheckpointEveryN(output.folder, every_n_steps=output.checkpoint_every, history=history)
    progress = ProgressBridge(output.progress, title=output.title, throughput=throughput)
    with quiet_lightning():
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
                *([] if watch is None else [watch]),
                *([PackingCheck(datamodule, note=output.progress.note)] if datamodule.in_rows else []),
                SeedEveryBatch(datamodule.seed),
                throughput,
                history,
                *([] if datamodule.hard is None else [MeasureConfidence(datamodule)]),
                progress,
                checkpoints,
                DivergenceReport(output.folder),
                BookkeepingEnd(throughput),
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
    return summarise(history.rows, first_step=first_step, history_path=output.folder / HISTORY_NAME)


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
